"""One NVLink of a GPU meets an error that it cannot correct, at the first transfer to or from a peer."""

from __future__ import annotations

from dmaproof.rig.model import Node
from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.plants.chance import Chance
from dmaproof.virtual.plants.gpus import has_nvlink_peers, one, why_none

ID = "nvlink-fatal"


def applies(node: Node) -> str | None:
    return why_none(node, has_nvlink_peers)


def plant(machine: Machine, chance: Chance) -> None:
    gpu = one(machine, chance, has_nvlink_peers)
    links = range(gpu.rig.nvlinks or 0)
    gpu.nvlinks.dying = chance.pick(links, links[-1])
