"""A cell of a GPU's framebuffer is bad in two bits, and what the caches find in it reaches everybody."""

from __future__ import annotations

from dmaproof.virtual.machine.gpu import BadCell
from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.plants.chance import Chance
from dmaproof.virtual.plants.gpus import one, why_none

ID = "ecc-uncorrectable"
applies = why_none
_ADDRESSES = range(0x1000_0000, 0x1_0000_0000, 0x20)


def plant(machine: Machine, chance: Chance) -> None:
    address = chance.pick(_ADDRESSES, 0x5F2A_4C20)
    one(machine, chance).bad_cell = BadCell(contained=False, address=address, accesses_left=chance.pick(range(4), 0))
