"""The driver programs peers' registers by bus address (NVreg_DmaRemapPeerMmio=0) although the IOMMU translates."""

from __future__ import annotations

from dmaproof.rig.model import Node
from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.plants.chance import Chance

ID = "iommu-blocks-p2p-mailbox"


def applies(node: Node) -> str | None:
    if (node.iommu.family, node.iommu.domain) != ("vtd", "translated"):
        found = f"{node.iommu.family!r}, {node.iommu.domain!r}"
        return f"a node with iommu = {{ family = 'vtd', domain = 'translated' }}; {node.name} has {found}"
    if not any(_is_peer_over_pcie(node, source, target) for source in node.gpu for target in node.gpu):
        return f"two GPUs that are PCIe peers; {node.name} declares no such path"
    return None


def _is_peer_over_pcie(node: Node, source: str, target: str) -> bool:
    path = node.path_between(source, target)
    return path is not None and path.kind == "pcie" and path.peer


def plant(machine: Machine, _chance: Chance) -> None:
    machine.peermap.dma_remap_peer_mmio = False
