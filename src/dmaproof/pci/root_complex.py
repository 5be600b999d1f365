"""Whether Linux lets peer traffic through a host bridge: the second half of drivers/pci/p2pdma.c's rule.

Peer requests that no bridge below turns round go up to the root complex, which need not forward them. The kernel trusts
AMD CPUs from family 0x17 on (cpu_supports_p2pdma), and the host bridges of a list (pci_p2pdma_whitelist).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dmaproof.pci import sysfs
from dmaproof.pci.capability import Express
from dmaproof.pci.config import ConfigSpace
from dmaproof.pci.sysfs import PciFunction

CPUINFO = Path("proc/cpuinfo")
_FIRST_AMD_FAMILY = 0x17  # Zen
_INTEL, _NVIDIA, _GOOGLE = 0x8086, 0x10DE, 0x1AE0
_SAME_BRIDGE_ONLY = {(_INTEL, one) for one in (0x3C00, 0x3C01, 0x2F00, 0x2F01)}
_LISTED = {(_INTEL, one) for one in (0x2030, 0x2031, 0x2032, 0x2033, 0x2020, 0x09A2)}
# Later kernels' additions: accelerators at the head of their own root bus, Google's SoCs, NVIDIA's and Zhaoxin's CPUs.
_LISTED_LATELY = {
    *((_INTEL, one) for one in (0x0B25, 0x0CFE, 0x11FB, 0x1212, 0x1216, 0x4940, 0x4942, 0x4944, 0x4946, 0x4948)),
    *((_NVIDIA, one) for one in (0x2F95, 0x2F96, 0x2F97, 0x2F98)),
}


@dataclass(frozen=True, slots=True)
class Cpu:
    """The first CPU; ``vendor`` as x86 spells it, None elsewhere. Not ``known`` where cpuinfo cannot be read."""

    known: bool
    vendor: str | None = None
    family: int | None = None

    @property
    def passes_peers(self) -> bool | None:
        if not self.known:
            return None
        return self.vendor == "AuthenticAMD" and (self.family or 0) >= _FIRST_AMD_FAMILY

    def __str__(self) -> str:
        if not self.known:
            return "CPU unknown"
        return f"{self.vendor} family {self.family or 0:#x}" if self.vendor else "no x86 CPU"


@dataclass(frozen=True, slots=True)
class Passage:
    """The verdict on a way through the host bridge; None: what decides it cannot be seen. ``root`` is the device that
    stands for the host bridge that decided, where one did."""

    allowed: bool | None
    reason: str
    root: str | None = None


def cpu(root: Path) -> Cpu:
    """The CPU of the node under ``root``."""
    content = sysfs.text(root / CPUINFO)
    if not content:
        return Cpu(known=False)
    fields = dict(re.findall(r"^(vendor_id|cpu family)\s*:\s*(\S+)\s*$", content.partition("\n\n")[0], re.MULTILINE))
    family = fields.get("cpu family", "")
    return Cpu(True, fields.get("vendor_id"), int(family) if family.isdecimal() else None)


def passage(
    functions: Sequence[PciFunction], spaces: Mapping[str, ConfigSpace], cpu: Cpu, tops: tuple[str, str]
) -> Passage:
    """Whether traffic between the root buses of the functions ``tops`` may pass."""
    if cpu.passes_peers:
        return Passage(True, f"{cpu}: the kernel trusts its root complex")
    bridges = tuple(dict.fromkeys(top.rpartition(":")[0] for top in tops))
    found = [_bridge(functions, spaces, bus, same=len(bridges) == 1) for bus in bridges]
    worst = min(found, key=lambda one: (one.allowed is not False, one.allowed is not None))
    if worst.allowed is False and cpu.passes_peers is None:
        return Passage(None, f"/{CPUINFO} is unreadable, and {worst.reason}", worst.root)
    return worst


def _bridge(functions: Sequence[PciFunction], spaces: Mapping[str, ConfigSpace], bus: str, *, same: bool) -> Passage:
    """pci_host_bridge_dev and __host_bridge_whitelist. The kernel takes the first device in its own list of the bus;
    sysfs gives no order, so the lowest device and function number stands for it."""
    root = next((one for one in functions if one.parent is None and one.bdf.startswith(f"{bus}:")), None)
    if root is None:
        return Passage(None, f"no device on root bus {bus} is known")
    listed, why = _listed(root, same=same)
    if listed is False:
        return Passage(False, why, root.bdf)
    eligible = _stands_for_bridge(root, spaces.get(root.bdf))
    if eligible is False:
        return Passage(False, f"{root.bdf}, first on root bus {bus}, is neither device 00.0 nor a root port", root.bdf)
    if eligible is None:
        return Passage(None, f"whether {root.bdf}, first on root bus {bus}, is a root port is unknown", root.bdf)
    return Passage(listed, why, root.bdf)


def _listed(root: PciFunction, *, same: bool) -> tuple[bool | None, str]:
    key = (root.vendor, root.device)
    name = f"{root.vendor:04x}:{root.device:04x} (first on its root bus: {root.bdf}, the lowest number there)"
    if key in _LISTED:
        return True, f"the kernel's whitelist has host bridge {name}"
    if key in _SAME_BRIDGE_ONLY:
        rest = "both ends are under it" if same else "but only for peers that are both under it"
        return same, f"the kernel's whitelist has host bridge {name}; {rest}"
    if key in _LISTED_LATELY or root.vendor == _GOOGLE:
        return None, f"only later kernels' whitelists have host bridge {name}; which this kernel has is unknown"
    return False, f"the kernel's whitelist lacks host bridge {name}"


def _stands_for_bridge(root: PciFunction, space: ConfigSpace | None) -> bool | None:
    if root.bdf.endswith(":00.0"):
        return True
    if space is None or space.express == "unknown":
        return None
    return isinstance(space.express, Express) and space.express.port == "root-port"
