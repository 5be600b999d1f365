"""The GPU's coherent memory is left out of stage 2: no ATS request for a page there is ever answered with access."""

from __future__ import annotations

from dmaproof.rig.model import Node
from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.plants.chance import Chance

ID = "ats-stage2-hole"


def applies(node: Node) -> str | None:
    if node.addressing != "ats":
        return f"a node with addressing = 'ats'; {node.name} has {node.addressing!r}"
    if not any(gpu.memory_nbytes for gpu in node.gpus):
        return f"a GPU with memory_nbytes; {node.name} declares none"
    return None


def plant(machine: Machine, _chance: Chance) -> None:
    coherent = [gpu.coherent for gpu in machine.gpus.values() if gpu.coherent is not None]
    machine.iommu.stage2 = [one for one in machine.iommu.stage2 if one not in coherent]
