"""Which GPUs a plant can be of."""

from __future__ import annotations

from collections.abc import Callable

from dmaproof.rig.hardware import Gpu
from dmaproof.rig.model import Node
from dmaproof.virtual.machine.gpu import GpuModel
from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.plants.chance import Chance
from dmaproof.virtual.wire import HOST

_AMPERE = 8


def any_gpu(_node: Node, _gpu: Gpu) -> bool:
    return True


def remaps_rows(_node: Node, gpu: Gpu) -> bool:
    """Row remapping and the containment of errors came with Ampere."""
    return int((gpu.compute_capability or "0").partition(".")[0]) >= _AMPERE


def has_nvlink_peers(node: Node, gpu: Gpu) -> bool:
    """NVLinks that are counted, of which one can be lost, and a path over them."""
    return (gpu.nvlinks or 0) > 1 and any(
        path is not None and path.kind == "nvlink" and path.peer
        for path in (node.path_between(gpu.name, other.name) for other in node.gpus)
    )


def copies_over_pcie(node: Node, gpu: Gpu) -> bool:
    """Its way to the node's memory crosses the IOMMU; over C2C it does not."""
    path = node.path_between(gpu.name, HOST)
    return path is not None and path.kind == "pcie"


Fits = Callable[[Node, Gpu], bool]
_WANTED: dict[Fits, str] = {
    any_gpu: "a GPU",
    remaps_rows: "a GPU of compute_capability 8.0 or later",
    copies_over_pcie: "a GPU that reaches the node's memory by a path of kind = 'pcie'",
    has_nvlink_peers: "a GPU with nvlinks = 2 or more and a peer path of kind = 'nvlink'",
}


def why_none(node: Node, fits: Fits = any_gpu) -> str | None:
    """Why no GPU of ``node`` fits; None where one does."""
    if any(fits(node, gpu) for gpu in node.gpus):
        return None
    return f"a node with {_WANTED[fits]}; {node.name} has none"


def one(machine: Machine, chance: Chance, fits: Fits = any_gpu) -> GpuModel:
    """A GPU that fits; the last one is the usual choice."""
    fitting = [gpu for gpu in machine.gpus.values() if fits(machine.node, gpu.rig)]
    return chance.pick(fitting, fitting[-1])
