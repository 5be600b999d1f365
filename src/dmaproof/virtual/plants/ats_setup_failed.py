"""The kernel enables no shared virtual addressing for the GPUs: the driver goes on without ATS."""

from __future__ import annotations

from dmaproof.rig.model import Node
from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.plants.chance import Chance

ID = "ats-setup-failed"


def applies(node: Node) -> str | None:
    return None if node.addressing == "ats" else f"a node with addressing = 'ats'; {node.name} has {node.addressing!r}"


def plant(machine: Machine, chance: Chance) -> None:
    for gpu in machine.gpus.values():
        machine.nvrm.no_sva(gpu)
    machine.addressing = chance.pick(("none", "hmm"), "hmm")  # as its kernel has HMM, or not
