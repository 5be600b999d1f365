"""The kernel driver follows a pointer to nothing whenever it works for one GPU: whoever called it dies."""

from __future__ import annotations

from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.machine.oops import Bug
from dmaproof.virtual.plants.chance import Chance
from dmaproof.virtual.plants.gpus import one, why_none

ID = "kernel-crash"
applies = why_none


def plant(machine: Machine, chance: Chance) -> None:
    one(machine, chance).bug = Bug(chance.pick((0x58, 0xFFFFA0D4_0B1C_3008), 0x58))
