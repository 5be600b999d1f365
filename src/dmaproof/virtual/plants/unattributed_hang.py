"""The copy engine of the first GPU stops fetching work from its channels: nothing faults, nothing is said."""

from __future__ import annotations

from dmaproof.rig.model import Node
from dmaproof.virtual.machine.machine import Machine

ID = "unattributed-hang"


def applies(node: Node) -> str | None:
    return None if node.gpus else f"a node with a GPU; {node.name} has none"


def plant(machine: Machine) -> None:
    next(iter(machine.gpus.values())).engines["ce"].fetching = False
