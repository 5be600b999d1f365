"""An index in the programs' kernels overflows: those that work on much memory touch an address far away."""

from __future__ import annotations

from dmaproof.virtual.machine.gpu import WildIndex
from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.plants.chance import Chance
from dmaproof.virtual.plants.gpus import one, why_none

ID = "application-fault"
applies = why_none
_FAR_AWAY = range(0x1000_0000_0000, 0x2000_0000_0000, 0x1000)
"""Below where Linux puts programs and their heaps (0x55.., 0x7f.. on x86-64, 0xaa.., 0xff.. on Arm)."""
_FROM_NBYTES = 64 << 10


def plant(machine: Machine, chance: Chance) -> None:
    one(machine, chance).wild = WildIndex(chance.pick(_FAR_AWAY, 0x1A2B_C3D4_E000), _FROM_NBYTES)
