"""The link of one GPU trains with fewer lanes, or at a lower rate, than both of its ends can do."""

from __future__ import annotations

from itertools import product

from dmaproof.rig.hardware import Gpu, PcieLink
from dmaproof.rig.model import Node
from dmaproof.virtual.machine.link import rate_Mbps
from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.plants.chance import Chance

ID = "pcie-link-degraded"
_WIDTHS = (1, 2, 4, 8, 16)


def applies(node: Node) -> str | None:
    if any(_poorer(node, gpu) for gpu in node.gpus):
        return None
    return f"a GPU whose pcie link can train to less; {node.name} declares none"


def plant(machine: Machine, chance: Chance) -> None:
    gpus = [gpu for gpu in machine.gpus.values() if _poorer(machine.node, gpu.rig)]
    gpu = chance.pick(gpus, gpus[0])
    links = _poorer(machine.node, gpu.rig)
    gpu.link.trained = chance.pick(links, links[0])


def _poorer(node: Node, gpu: Gpu) -> list[PcieLink]:
    """Links at half the rate or less, the usual one first: a quarter of the lanes. A rate alone that is lower shows
    only in what goes over PCIe: at rest it is power saving."""
    full = gpu.pcie
    if full is None:
        return []
    generations = range(1, full.generation + 1) if _copies_over_pcie(node, gpu) else (full.generation,)
    links = [
        PcieLink(generation=generation, width=width)
        for generation, width in product(generations, (w for w in _WIDTHS if w <= full.width))
    ]
    usual = (full.generation, max(1, full.width // 4))
    slow = [link for link in links if 2 * rate_Mbps(link) <= rate_Mbps(full)]
    return sorted(slow, key=lambda link: (link.generation, link.width) != usual)


def _copies_over_pcie(node: Node, gpu: Gpu) -> bool:
    path = node.path_between("host", gpu.name)
    return path is not None and path.kind == "pcie"
