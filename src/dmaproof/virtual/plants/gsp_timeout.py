"""The system processor of a GPU stops answering the kernel driver, at once or after a few requests."""

from __future__ import annotations

from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.plants.chance import Chance
from dmaproof.virtual.plants.gpus import one, why_none

ID = "gsp-timeout"
applies = why_none


def plant(machine: Machine, chance: Chance) -> None:
    one(machine, chance).gsp.answers_left = chance.pick(range(4), 0)
