"""A GPU's window onto its peer leads into memory of the node that no other GPU looks at, as a hypervisor's mapping of
the wrong range does (nccl#2335): the writer finds its data there, the owner never sees it."""

from __future__ import annotations

from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.plants.chance import Chance
from dmaproof.virtual.plants.peers import over_pcie, some, why_no_peers

ID = "peer-mirror"
applies = why_no_peers


def plant(machine: Machine, chance: Chance) -> None:
    machine.peermap.astray |= some(over_pcie(machine.node), chance)
