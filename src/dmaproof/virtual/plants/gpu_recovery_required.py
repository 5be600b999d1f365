"""The driver has found, before the run, that a GPU needs recovery; nothing else shows yet."""

from __future__ import annotations

from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.machine.nvrm import (
    RECOVERY_DRAIN_AND_RESET,
    RECOVERY_DRAIN_P2P,
    RECOVERY_GPU_RESET,
    RECOVERY_NODE_REBOOT,
)
from dmaproof.virtual.plants.chance import Chance
from dmaproof.virtual.plants.gpus import one, why_none

ID = "gpu-recovery-required"
applies = why_none
_ACTIONS = (RECOVERY_DRAIN_AND_RESET, RECOVERY_GPU_RESET, RECOVERY_DRAIN_P2P, RECOVERY_NODE_REBOOT)


def plant(machine: Machine, chance: Chance) -> None:
    machine.nvrm.recover(one(machine, chance), chance.pick(_ACTIONS, RECOVERY_DRAIN_AND_RESET))
