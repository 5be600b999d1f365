"""A row of a GPU's memory was marked for remapping before the run, and the GPU not reset since."""

from __future__ import annotations

from dmaproof.rig.model import Node
from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.machine.nvrm import Process
from dmaproof.virtual.plants.chance import Chance
from dmaproof.virtual.plants.gpus import one, remaps_rows, why_none

ID = "row-remap-pending"
_ADDRESSES = range(0x1000_0000, 0x1_0000_0000, 0x20)
_WHO = Process(2211, "train.py")


def applies(node: Node) -> str | None:
    return why_none(node, remaps_rows)


def plant(machine: Machine, chance: Chance) -> None:
    machine.nvrm.remap_row(one(machine, chance, remaps_rows), _WHO, chance.pick(_ADDRESSES, 0x5F2A_4C20))
