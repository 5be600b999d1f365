"""Which NUMA nodes a set of processors belongs to (Documentation/ABI/stable/sysfs-devices-node)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dmaproof import cpulist
from dmaproof.pci import sysfs

NODES = Path("sys/devices/system/node")


def numa_nodes(root: Path, cpus: Iterable[int]) -> frozenset[int] | None:
    """The NUMA nodes of ``cpus`` on the machine under ``root``; None where its kernel does not say."""
    wanted, found = set(cpus), {}
    for name in sysfs.names(root / NODES):
        number = name.removeprefix("node")
        if number.isdecimal() and (listed := sysfs.text(root / NODES / name / "cpulist")) is not None:
            found[int(number)] = cpulist.parse(listed)
    return frozenset(number for number, members in found.items() if members & wanted) if found else None
