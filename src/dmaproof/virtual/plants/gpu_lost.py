"""The link of the last GPU goes down at the first transfer over it."""

from __future__ import annotations

from dmaproof.rig.model import Node
from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.plants.chance import Chance

ID = "gpu-lost"


def applies(node: Node) -> str | None:
    return None if node.gpus else f"a node with a GPU; {node.name} has none"


def plant(machine: Machine, chance: Chance) -> None:
    gpus = list(machine.gpus.values())
    chance.pick(gpus, gpus[-1]).link.transfers_left = 0
