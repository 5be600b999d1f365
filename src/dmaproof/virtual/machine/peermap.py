"""Which addresses the NVIDIA kernel driver programs a GPU's engines with, to reach peers and the node's memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from dmaproof.rig.model import Gpu
from dmaproof.virtual.machine.fabric import Fabric
from dmaproof.virtual.machine.gpu import MAILBOX_OFFSET
from dmaproof.virtual.machine.iommu import PAGE_NBYTES, Iommu


@dataclass(frozen=True, slots=True)
class PeerWindow:
    """The addresses that a requester's engine is programmed with to reach a peer: its mailbox, its memory."""

    mailbox: int
    memory: int


@dataclass(slots=True)
class PeerMap:
    """``dma_remap_peer_mmio`` is the module parameter NVreg_DmaRemapPeerMmio: off, peers' registers are addressed as
    the bus knows them, whatever the requester's domain makes of that.
    """

    iommu: Iommu
    fabric: Fabric
    dma_remap_peer_mmio: bool = True
    _windows: dict[tuple[str, str], PeerWindow] = field(default_factory=dict)
    _memory: dict[str, int] = field(default_factory=dict)

    def peer_window(self, requester: str, peer: Gpu) -> PeerWindow:
        """Mapped at a pair's first transfer, and kept."""
        key = requester, peer.bdf
        if key not in self._windows:
            self._windows[key] = self._map_peer(requester, peer)
        return self._windows[key]

    def _map_peer(self, requester: str, peer: Gpu) -> PeerWindow:
        mailbox, memory = registers(peer) + MAILBOX_OFFSET, aperture(peer)
        domain = self.iommu.domains.get(requester)
        if domain is None or not self.dma_remap_peer_mmio:
            return PeerWindow(mailbox, memory.address)
        return PeerWindow(domain.map(mailbox, PAGE_NBYTES), domain.map(memory.address, memory.nbytes))

    def memory_window(self, requester: str) -> int:
        """Where ``requester`` finds the node's own memory; the driver maps what an engine is to touch."""
        if requester not in self._memory:
            domain, memory = self.iommu.domains.get(requester), self.fabric.memory()
            self._memory[requester] = memory.address if domain is None else domain.map(memory.address, memory.nbytes)
        return self._memory[requester]


def registers(gpu: Gpu) -> int:
    """The bus address of a GPU's registers: BAR0."""
    return next(bar.address for bar in gpu.bars if bar.index == 0)


@dataclass(frozen=True, slots=True)
class _Memory:
    address: int
    nbytes: int


def aperture(gpu: Gpu) -> _Memory:
    """The BAR that peers reach a GPU's memory by: the first behind BAR0 (BAR1, or BAR2 where BAR0 is 64-bit)."""
    return next(_Memory(bar.address, bar.nbytes) for bar in sorted(gpu.bars, key=lambda one: one.index) if bar.index)
