"""The node's memory is unmapped in a GPU's domain while its engines still use it: a driver that unmaps too early."""

from __future__ import annotations

from dmaproof.rig.model import Node
from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.plants import gpus, peers
from dmaproof.virtual.plants.chance import Chance

ID = "iommu-blocks-memory"


def applies(node: Node) -> str | None:
    return peers.why_no_faults(node) or gpus.why_none(node, gpus.copies_over_pcie)


def plant(machine: Machine, chance: Chance) -> None:
    machine.peermap.early.add(gpus.one(machine, chance, gpus.copies_over_pcie).bdf)
