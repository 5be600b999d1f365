"""The whole of a node's bus addresses, from what its kernel shows: BARs, reserved regions, memory.

Bridge windows claim nothing: what lies in one belongs to a BAR behind the bridge, or to nobody. Sources: ``resource``
(Documentation/ABI/testing/sysfs-bus-pci), ``reserved_regions`` (sysfs-kernel-iommu_groups), /proc/iomem
(kernel/resource.c, all zeros without CAP_SYS_ADMIN), else /sys/firmware/memmap (sysfs-firmware-memmap).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from dmaproof.pci import iommu, sysfs
from dmaproof.pci.addresses import NVIDIA_GPU, AddressMap, Claim, KnownPlace
from dmaproof.pci.iommu_state import Group
from dmaproof.pci.sysfs import Bar, PciFunction

IOMEM, MEMMAP = Path("proc/iomem"), Path("sys/firmware/memmap")
_MEM, _UNSET = 0x200, 0x20000000  # IORESOURCE_MEM, IORESOURCE_UNSET: include/linux/ioport.h
_NVIDIA, _DISPLAY = 0x10DE, 0x03
_LINE = re.compile(r"( *)([0-9a-f]+)-([0-9a-f]+) : (.+)")
# Persistent memory and what firmware set aside for special use are memory to DMA, whatever the kernel calls them.
_MEMORY = re.compile(r"System RAM|Persistent Memory|Soft Reserved|CXL Window")
_NOT_ITS_OWN = re.compile(r"PCI Bus |[0-9a-f]{4,8}:[0-9a-f]{2}:")


def of_sysfs(root: Path) -> AddressMap:
    """The map of the node under ``root``; what could not be read is in ``unseen``, and the map is then not whole."""
    functions, groups = sysfs.functions(root), iommu.groups(root)
    memory, unseen = _memory(root)
    unseen = (*unseen, *_unread(functions, groups))
    return AddressMap((*_bars(functions), *_reserved(groups), *memory), whole=not unseen, unseen=unseen)


def is_assigned(bar: Bar) -> bool:
    """Memory with an address: no I/O ports, and none that the kernel found no room for."""
    return bool(bar.flags & _MEM) and not bar.flags & _UNSET and bar.address != 0


def _bars(functions: Sequence[PciFunction]) -> Iterator[Claim]:
    for one in functions:
        for bar in one.bars or ():
            if is_assigned(bar):
                yield Claim("bar", bar.address, bar.nbytes, one.bdf, bar.index, known=known_places(one))


def known_places(function: PciFunction) -> tuple[KnownPlace, ...]:
    """What is known of the insides of its BARs: nothing, but for NVIDIA's display and 3D controllers."""
    is_gpu = function.vendor == _NVIDIA and function.class_code >> 16 == _DISPLAY
    return NVIDIA_GPU if is_gpu else ()


def _reserved(groups: Sequence[Group]) -> Iterator[Claim]:
    """One claim a region: the window of the MSIs is the same in many groups, and holds for their members alone."""
    holders: dict[tuple[int, int, str], set[str]] = {}
    for group in groups:
        for region in group.reserved or ():
            holders.setdefault((region.first, region.last, region.type), set()).update(group.members)
    for (first, last, kind), members in holders.items():
        yield Claim("reserved", first, last - first + 1, name=kind, requesters=frozenset(members))


def _unread(functions: Sequence[PciFunction], groups: Sequence[Group]) -> tuple[str, ...]:
    blind = [one.bdf for one in functions if one.bars is None]
    closed = [str(group.number) for group in groups if group.reserved is None]
    return (
        *([] if functions else [f"no PCI function under /{sysfs.DEVICES}"]),
        *([f"BARs unreadable: {', '.join(blind)}"] if blind else []),
        *([f"reserved regions unreadable: IOMMU groups {', '.join(closed)}"] if closed else []),
    )


def _memory(root: Path) -> tuple[tuple[Claim, ...], tuple[str, ...]]:
    """Memory and what else is no PCI device's; and why it is unknown, where it is."""
    found = tuple(_iomem(sysfs.text(root / IOMEM) or ""))
    if found:
        return found, ()
    found = tuple(_memmap(root))
    if found:
        return found, ()
    return (), (f"where memory is: /{IOMEM} shows zeros or nothing to an unprivileged process: needs root",)


def _iomem(content: str) -> Iterator[Claim]:
    """Outermost entries, and memory wherever it stands: a driver's (System RAM (NVIDIA)) is inside its device's."""
    for line in content.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        first, last, name = int(match[2], 16), int(match[3], 16), match[4]
        if last <= first:
            continue
        if _MEMORY.match(name):
            yield Claim("ram", first, last - first + 1, name=name)
        elif not match[1] and not _NOT_ITS_OWN.match(name):
            yield Claim("reserved", first, last - first + 1, name=name)


def _memmap(root: Path) -> Iterator[Claim]:
    for name in sysfs.names(root / MEMMAP):
        first, last = (sysfs.number(root / MEMMAP / name / word) for word in ("start", "end"))
        kind = sysfs.text(root / MEMMAP / name / "type")
        if first is not None and last is not None and last > first and kind is not None:
            yield Claim("ram" if _MEMORY.match(kind) else "reserved", first, last - first + 1, name=kind)
