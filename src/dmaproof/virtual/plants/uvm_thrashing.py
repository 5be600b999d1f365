"""Another processor touches each page as soon as it has come to a GPU: every served fault is undone."""

from __future__ import annotations

from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.plants.chance import Chance
from dmaproof.virtual.plants.gpus import one, why_none

ID = "uvm-thrashing"
applies = why_none


def plant(machine: Machine, chance: Chance) -> None:
    one(machine, chance).faults.contested = True
