"""The copy engine of the first GPU stops fetching work from its channels: nothing faults, nothing is said."""

from __future__ import annotations

from dmaproof.rig.model import Node
from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.plants.chance import Chance

ID = "unattributed-hang"


def applies(node: Node) -> str | None:
    return None if node.gpus else f"a node with a GPU; {node.name} has none"


def plant(machine: Machine, chance: Chance) -> None:
    gpus = list(machine.gpus.values())
    chance.pick(gpus, gpus[0]).engines["ce"].fetching = False
