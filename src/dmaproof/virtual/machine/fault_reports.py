"""How a node's IOMMU tells of a refused DMA: one reporter a family."""

from __future__ import annotations

from collections.abc import Callable

from dmaproof.rig.model import Node
from dmaproof.virtual.machine import amdvi, smmuv3, virtio_iommu, vtd
from dmaproof.virtual.machine.iommu import Fault
from dmaproof.virtual.machine.kmsg import KernelLog
from dmaproof.virtual.machine.topology import functions, smmu_of

FaultReporter = Callable[[Fault, float], None]
"""Takes a fault and the time it happened at."""

_FAMILIES: dict[str, Callable[[Node, KernelLog], FaultReporter]] = {
    "vtd": lambda _node, log: vtd.FaultLog(log).report,
    "amdvi": lambda node, log: amdvi.FaultLog(log, _domains(node)).report,
    "smmuv3": lambda node, log: smmuv3.FaultLog(log, smmu_of(node)).report,
    "virtio-iommu": lambda _node, log: virtio_iommu.FaultLog(log).report,
}


def families() -> tuple[str, ...]:
    """The IOMMU families whose reports are modelled."""
    return tuple(_FAMILIES)


def reporter(node: Node, log: KernelLog) -> FaultReporter:
    """The reporter of ``node``'s IOMMU; one that cannot be asked where the family's reports are not modelled."""
    make = _FAMILIES.get(node.iommu.family)
    return make(node, log) if make is not None else _unmodelled


def _unmodelled(fault: Fault, _now_s: float) -> None:
    raise NotImplementedError(f"how this family of IOMMU reports {fault} is not modelled")


def _domains(node: Node) -> dict[str, int]:
    """Protection domains are numbered from 1, one a group."""
    return {one.bdf: one.group + 1 for one in functions(node) if one.group is not None}
