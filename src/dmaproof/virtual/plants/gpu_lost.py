"""The link of the last GPU goes down at the first transfer over it."""

from __future__ import annotations

from dmaproof.rig.model import Node
from dmaproof.virtual.machine.machine import Machine

ID = "gpu-lost"


def applies(node: Node) -> str | None:
    return None if node.gpus else f"a node with a GPU; {node.name} has none"


def plant(machine: Machine) -> None:
    list(machine.gpus.values())[-1].link.transfers_left = 0
