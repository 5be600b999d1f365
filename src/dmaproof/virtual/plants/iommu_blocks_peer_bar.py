"""Only the page with a peer's mailbox is mapped in the requester's domain: the peer's memory is addressed as the bus
knows it, and the IOMMU refuses that."""

from __future__ import annotations

from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.plants.chance import Chance
from dmaproof.virtual.plants.peers import over_root, some, why_untranslated

ID = "iommu-blocks-peer-bar"
applies = why_untranslated


def plant(machine: Machine, chance: Chance) -> None:
    machine.peermap.raw |= some(over_root(machine.node), chance)
