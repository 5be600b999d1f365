"""The kernel driver's lock of a GPU is never given back: calls for that GPU do not return."""

from __future__ import annotations

from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.plants.chance import Chance
from dmaproof.virtual.plants.gpus import one, why_none

ID = "driver-stuck"
applies = why_none


def plant(machine: Machine, chance: Chance) -> None:
    one(machine, chance).lock_held = True
