"""The root complex moves traffic between its ports at a fraction of the rate that it moves traffic to memory."""

from __future__ import annotations

from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.plants.chance import Chance
from dmaproof.virtual.plants.peers import why_none_over_root

ID = "p2p-slower-than-host"
_SHARES = (0.05, 0.08, 0.1, 0.15, 0.2, 0.3)
applies = why_none_over_root


def plant(machine: Machine, chance: Chance) -> None:
    machine.fabric.root_complex.peer_share = chance.pick(_SHARES, 0.1)
