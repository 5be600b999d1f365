"""Which NUMA nodes a set of processors belongs to (Documentation/ABI/stable/sysfs-devices-node)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dmaproof.pci import sysfs

NODES = Path("sys/devices/system/node")
_MOST = 1 << 16
"""More processors than any kernel can have (CONFIG_NR_CPUS)."""


def numa_nodes(root: Path, cpus: Iterable[int]) -> frozenset[int] | None:
    """The NUMA nodes of ``cpus`` on the machine under ``root``; None where its kernel does not say."""
    wanted, found = set(cpus), {}
    for name in sysfs.names(root / NODES):
        number = name.removeprefix("node")
        if number.isdecimal() and (listed := sysfs.text(root / NODES / name / "cpulist")) is not None:
            found[int(number)] = parsed(listed)
    return frozenset(number for number, members in found.items() if members & wanted) if found else None


def parsed(text: str) -> set[int]:
    """``0-3,8`` as a set (Documentation/admin-guide/cputopology.rst: cpulist); what is no number is left out."""
    members: set[int] = set()
    for word in text.split(","):
        first, dash, last = word.strip().partition("-")
        if first.isdecimal() and (last.isdecimal() or not dash):
            members |= set(range(int(first), min(int(last if dash else first), _MOST) + 1))
    return members
