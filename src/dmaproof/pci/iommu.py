"""What stands between endpoints and memory: IOMMUs, groups, default domains, and the ACS and ATS bits of every path.

Sources: Documentation/ABI/testing/sysfs-kernel-iommu_groups and sysfs-class-iommu, Documentation/admin-guide/
kernel-parameters.txt. A group's type is its *default* domain: not what a VFIO user of the device has attached.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from dmaproof.pci import config, sysfs, tree
from dmaproof.pci.capability import Acs, Ats
from dmaproof.pci.iommu_state import EndpointPath, Family, Group, Hop, IommuDevice, IommuState, ReservedRegion

CLASS, GROUPS, TABLES = Path("sys/class/iommu"), Path("sys/kernel/iommu_groups"), Path("sys/firmware/acpi/tables")
_FAMILIES: tuple[tuple[re.Pattern[str], Family], ...] = (
    (re.compile(r"dmar\d+"), "vtd"),
    (re.compile(r"ivhd\d+"), "amdvi"),
    (re.compile(r"smmu3\..+"), "smmuv3"),
    (re.compile(r"smmu\..+"), "smmuv2"),
    (re.compile(r"virtio\d+|[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]"), "virtio-iommu"),
)
_TABLES = ("DMAR", "IVRS", "IORT", "VIOT", "CEDT", "SRAT", "HMAT")
_OFFERS = {"DMAR": "VT-d", "IVRS": "AMD-Vi", "VIOT": "virtio-iommu"}  # an IORT stands without an SMMU, too
_PARAMETERS = re.compile(
    r"(?:intel_iommu|amd_iommu|iommu(?:\.\w+)?|intremap|swiotlb|pcie_acs_override|arm[-_]smmu(?:[-_]v3)?\.\w+|vfio\w*\.\w+)"
    r"(?:=.*)?|pci=.*\b(?:noats|config_acs|disable_acs_redir).*"
)


def snapshot(root: Path) -> IommuState:
    """The state of the node whose root is ``root``. Never raises for what cannot be read: it is unknown then."""
    functions = sysfs.functions(root)
    devices = tuple(_device(root, name) for name in sysfs.names(root / CLASS))
    tables = set(sysfs.names(root / TABLES))
    facts = IommuState(
        family=_family(root, devices),
        devices=devices,
        groups=groups(root, {one.bdf for one in functions if one.is_bridge}),
        command_line=_command_line(root),
        tables=tuple(name for name in _TABLES if name in tables),
        paths=_paths(root, functions),
    )
    return replace(facts, summary=tuple(summarize(facts)))


def _device(root: Path, name: str) -> IommuDevice:
    family: Family = next((family for form, family in _FAMILIES if form.fullmatch(name)), "unknown")
    return IommuDevice(name, family, tuple(sysfs.names(root / CLASS / name / "devices")))


def _family(root: Path, devices: tuple[IommuDevice, ...]) -> Family:
    """The family of most instances; ``unknown`` where the list itself cannot be read."""
    if devices:
        return Counter(device.family for device in devices).most_common(1)[0][0]
    try:
        list((root / CLASS).iterdir())
    except FileNotFoundError:
        return "none"  # a kernel without IOMMU support has no such class
    except OSError:
        return "unknown"
    return "none"


def groups(root: Path, bridges: Collection[str] = ()) -> tuple[Group, ...]:
    """The IOMMU groups under ``root``; members that are no ``bridges`` are their endpoints."""
    numbers = sorted(int(name) for name in sysfs.names(root / GROUPS) if name.isdecimal())
    return tuple(_group(root / GROUPS / str(number), number, bridges) for number in numbers)


def _group(folder: Path, number: int, bridges: Collection[str]) -> Group:
    members = tuple(sysfs.names(folder / "devices"))
    endpoints = tuple(bdf for bdf in members if bdf not in bridges)
    return Group(number, sysfs.text(folder / "type"), members, endpoints, _reserved(folder / "reserved_regions"))


def _reserved(path: Path) -> tuple[ReservedRegion, ...] | None:
    content = sysfs.text(path)
    if content is None:
        return None
    form = re.compile(r"0x([0-9a-f]{1,16}) 0x([0-9a-f]{1,16}) (\S+)")
    matches = (form.fullmatch(line) for line in content.splitlines())
    return tuple(ReservedRegion(int(m[1], 16), int(m[2], 16), m[3]) for m in matches if m is not None)


def _command_line(root: Path) -> tuple[str, ...] | None:
    content = sysfs.text(root / "proc/cmdline")
    return None if content is None else tuple(word for word in content.split() if _PARAMETERS.fullmatch(word))


def _paths(root: Path, functions: tuple[sysfs.PciFunction, ...]) -> tuple[EndpointPath, ...]:
    hops = {function.bdf: _hop(root, function.bdf) for function in functions}
    return tuple(
        EndpointPath(one.bdf, tuple(hops[bdf] for bdf in (one.bdf, *tree.upstream(functions, one.bdf)) if bdf in hops))
        for one in functions
        if not one.is_bridge
    )


def _hop(root: Path, bdf: str) -> Hop:
    space = config.parse(config.read(root, bdf) or b"")
    return Hop(bdf, space.complete, space.lost, space.acs, space.ats)


def summarize(state: IommuState) -> list[str]:
    """Sentences for people: what is on, what was asked for, and what could not be seen."""
    hops = {hop.bdf: hop for path in state.paths for hop in path.hops}
    sentences = [_presence(state)]
    if state.groups:
        types = Counter(group.type or "unreadable" for group in state.groups)
        counts = ", ".join(f"{count} {name}" for name, count in types.most_common())
        sentences.append(f"default domains of {len(state.groups)} groups: {counts}")
    if state.command_line:
        sentences.append(f"kernel command line: {' '.join(state.command_line)}")
    redirecting = [hop.bdf for hop in hops.values() if isinstance(hop.acs, Acs) and hop.acs.redirects]
    if redirecting:
        sentences.append(f"ACS sends peer requests through the root complex at {_some(redirecting)}")
    translating = [hop.bdf for hop in hops.values() if isinstance(hop.ats, Ats) and hop.ats.enabled]
    if translating:
        sentences.append(f"ATS is on at {_some(translating)}")
    return sentences + _unseen(list(hops.values()), state)


def _presence(state: IommuState) -> str:
    if state.devices:
        return f"IOMMU: {state.family} ({_some([device.name for device in state.devices])})"
    if state.family == "unknown":
        return f"IOMMU unknown: /{CLASS} cannot be listed"
    offered = [f"{_OFFERS[name]} ({name})" for name in state.tables if name in _OFFERS]
    unused = f"; firmware offers {', '.join(offered)}, but the kernel does not use it" if offered else ""
    return f"no IOMMU: /{CLASS} is empty{unused}"


def _unseen(hops: list[Hop], state: IommuState) -> list[str]:
    sentences = [f"{hop.bdf}: config space reads all ones: the device does not answer" for hop in hops if hop.lost]
    hidden = [hop.bdf for hop in hops if not hop.readable and not hop.lost]
    if hidden:
        sentences.append(
            f"config space unreadable beyond 64 bytes: needs root; ACS and ATS are unknown at {_some(hidden)}"
        )
    if state.command_line is None:
        sentences.append("/proc/cmdline is unreadable: what was asked of the kernel is unknown")
    return sentences


def _some(names: list[str], most: int = 8) -> str:
    left = len(names) - most
    return ", ".join(names[:most]) + (f" and {left} more" if left > 0 else "")
