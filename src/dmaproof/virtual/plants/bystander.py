"""Another process on a GPU faults again and again; the engine's reset ends what others have under way there."""

from __future__ import annotations

from dmaproof.virtual.machine.gpu import Neighbour
from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.plants.chance import Chance
from dmaproof.virtual.plants.gpus import one, why_none

ID = "bystander"
applies = why_none
_PIDS = range(20_000, 30_000)
_EVERY_NBYTES = 1 << 20


def plant(machine: Machine, chance: Chance) -> None:
    neighbour = Neighbour(chance.pick(_PIDS, 23_417), "inference.py", _EVERY_NBYTES)
    one(machine, chance).neighbour = neighbour
