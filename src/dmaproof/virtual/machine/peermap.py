"""Which addresses the NVIDIA kernel driver programs a GPU's engines with, to reach peers and the node's memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from dmaproof.rig.hardware import Gpu
from dmaproof.virtual.machine.fabric import Fabric
from dmaproof.virtual.machine.gpu import MAILBOX_OFFSET
from dmaproof.virtual.machine.iommu import PAGE_NBYTES, Iommu
from dmaproof.virtual.machine.kmsg import ERR, KernelLog


@dataclass(frozen=True, slots=True)
class PeerWindow:
    """The addresses that a requester's engine is programmed with to reach a peer: its mailbox, its memory."""

    mailbox: int
    memory: int


UNMAPPED = PeerWindow(-1, -1)
"""The driver could not map the peer."""


@dataclass(slots=True)
class PeerMap:
    """``dma_remap_peer_mmio`` is the module parameter NVreg_DmaRemapPeerMmio: off, peers' registers are addressed as
    the bus knows them, whatever the requester's domain makes of that.

    By (requester, peer): ``raw`` are pairs whose mailbox alone is mapped, while the peer's memory is addressed as the
    bus knows it; ``astray`` those whose window onto the peer's memory leads into the node's, as a hypervisor's might.
    ``early`` are requesters whose mapping of the node's memory is gone while their engines still use it.
    """

    iommu: Iommu
    fabric: Fabric
    log: KernelLog
    dma_remap_peer_mmio: bool = True
    raw: set[tuple[str, str]] = field(default_factory=set)
    astray: set[tuple[str, str]] = field(default_factory=set)
    early: set[str] = field(default_factory=set)
    _windows: dict[tuple[str, str], PeerWindow] = field(default_factory=dict)
    _memory: dict[str, int] = field(default_factory=dict)

    def peer_window(self, requester: str, peer: Gpu) -> PeerWindow:
        """Mapped at a pair's first transfer, and kept; UNMAPPED, and a line in the log, each time that fails."""
        key = requester, peer.bdf
        if key not in self._windows:
            window = self._map_peer(requester, peer)
            if window is UNMAPPED:
                return window
            self._windows[key] = window
        return self._windows[key]

    def _map_peer(self, requester: str, peer: Gpu) -> PeerWindow:
        mailbox, memory = registers(peer) + MAILBOX_OFFSET, self._behind(requester, peer)
        domain = self.iommu.domains.get(requester)
        if domain is None or not self.dma_remap_peer_mmio:
            return PeerWindow(mailbox, memory.address)
        if any(self.iommu.is_reserved(one.address, one.nbytes) for one in (_Memory(mailbox, PAGE_NBYTES), memory)):
            last = memory.address + memory.nbytes - 1  # nv_dma_map_mmio, kernel-open/nvidia/nv-dma.c
            self.log.write(f"NVRM: {requester}: Failed to DMA map MMIO range [{memory.address:#x}-{last:#x}]", ERR)
            return UNMAPPED
        if (requester, peer.bdf) in self.raw:
            return PeerWindow(domain.map(mailbox, PAGE_NBYTES), memory.address)
        return PeerWindow(domain.map(mailbox, PAGE_NBYTES), domain.map(memory.address, memory.nbytes))

    def _behind(self, requester: str, peer: Gpu) -> _Memory:
        """What is behind the window onto ``peer``'s memory."""
        memory = aperture(peer)
        if (requester, peer.bdf) in self.astray:
            return _Memory(self.fabric.memory().address, memory.nbytes)
        return memory

    def memory_window(self, requester: str) -> int:
        """Where ``requester`` finds the node's own memory; the driver maps what an engine is to touch."""
        if requester not in self._memory:
            domain, memory = self.iommu.domains.get(requester), self.fabric.memory()
            self._memory[requester] = memory.address if domain is None else domain.map(memory.address, memory.nbytes)
            if domain is not None and requester in self.early:
                domain.unmap(self._memory[requester])
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
