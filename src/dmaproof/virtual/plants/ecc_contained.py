"""Storage of an SM holds a word that is bad in two bits: whoever reads it first ends, and nobody else."""

from __future__ import annotations

from dmaproof.rig.model import Node
from dmaproof.virtual.machine.gpu import BadCell
from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.plants.chance import Chance
from dmaproof.virtual.plants.gpus import one, remaps_rows, why_none

ID = "ecc-contained"


def applies(node: Node) -> str | None:
    return why_none(node, remaps_rows)


def plant(machine: Machine, chance: Chance) -> None:
    gpu = one(machine, chance, remaps_rows)
    gpu.bad_cell = BadCell(contained=True, address=0, accesses_left=chance.pick(range(4), 0))
