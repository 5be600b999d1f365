"""The root complex takes peers' memory writes and forwards nothing; nobody is told, writes are posted."""

from __future__ import annotations

from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.plants.chance import Chance
from dmaproof.virtual.plants.peers import over_root, some, why_none_over_root

ID = "peer-writes-dropped"
applies = why_none_over_root


def plant(machine: Machine, chance: Chance) -> None:
    machine.fabric.root_complex.swallows |= some(over_root(machine.node), chance)
