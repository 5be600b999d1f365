"""Programs run with an allocator that gets its memory from memfd: malloc memory is a shared mapping."""

from __future__ import annotations

from dmaproof.rig.model import Node
from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.plants.chance import Chance

ID = "hmm-shared-atomics"


def applies(node: Node) -> str | None:
    return None if node.addressing == "hmm" else f"a node with addressing = 'hmm'; {node.name} has {node.addressing!r}"


def plant(machine: Machine, _chance: Chance) -> None:
    machine.heap = "shared"
