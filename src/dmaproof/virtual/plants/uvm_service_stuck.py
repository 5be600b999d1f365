"""The thread that serves a GPU's page faults is stuck from the first on: it sleeps on a lock, or spins."""

from __future__ import annotations

from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.plants.chance import Chance
from dmaproof.virtual.plants.gpus import one, why_none

ID = "uvm-service-stuck"
applies = why_none


def plant(machine: Machine, chance: Chance) -> None:
    one(machine, chance).bottom_half.stuck_in = chance.pick(("D", "R"), "D")
