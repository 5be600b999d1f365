"""The driver programs peers' registers by bus address (NVreg_DmaRemapPeerMmio=0) although the IOMMU translates."""

from __future__ import annotations

from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.plants.chance import Chance
from dmaproof.virtual.plants.peers import why_untranslated

ID = "iommu-blocks-p2p-mailbox"
applies = why_untranslated


def plant(machine: Machine, _chance: Chance) -> None:
    machine.peermap.dma_remap_peer_mmio = False
