"""What the NVIDIA kernel driver does: which peer registers it maps, and what it says when a GPU goes wrong.

Lines as open-gpu-kernel-modules 595.45 prints them: krcReportXid (kernel_rc.c), osHandleGpuLost (osinit.c),
RmLogGpuCrash (osapi.c), the recovery action (gpu.c).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dmaproof.rig.model import Gpu
from dmaproof.virtual.machine.fabric import Fabric
from dmaproof.virtual.machine.gpu import MAILBOX_OFFSET, GpuModel
from dmaproof.virtual.machine.iommu import PAGE_NBYTES, Iommu
from dmaproof.virtual.machine.kmsg import ERR, KernelLog
from dmaproof.virtual.machine.uvm import Access
from dmaproof.virtual.wire import GpuEvent

VERSION = "595.45.04"
XID_MMU_FAULT, XID_FALLEN_OFF, XID_RECOVERY_ACTION = 31, 79, 154
EVENT_XID, EVENT_UNAVAILABLE, EVENT_RECOVERY_ACTION = 0x8, 0x4000, 0x8000
RECOVERY_NONE, RECOVERY_GPU_RESET = 0, 1
_RECOVERY_NAMES = {RECOVERY_NONE: "None", RECOVERY_GPU_RESET: "GPU Reset Required"}


@dataclass(frozen=True, slots=True)
class Process:
    """Who opened the driver: log lines carry ``pid`` and ``name``."""

    pid: int
    name: str
    channel: int = 8


@dataclass(frozen=True, slots=True)
class PeerWindow:
    """The addresses that a requester's engine is programmed with to reach a peer: its mailbox, its memory."""

    mailbox: int
    memory: int


@dataclass(slots=True)
class Nvrm:
    """``dma_remap_peer_mmio`` is the module parameter NVreg_DmaRemapPeerMmio: off, peers' registers are addressed as
    the bus knows them, whatever the requester's domain makes of that. ``publish`` takes events for NVML.
    """

    log: KernelLog
    iommu: Iommu
    fabric: Fabric
    publish: Callable[[GpuEvent], None]
    dma_remap_peer_mmio: bool = True
    recovery: dict[str, int] = field(default_factory=dict)
    _windows: dict[tuple[str, str], PeerWindow] = field(default_factory=dict)
    _memory: dict[str, int] = field(default_factory=dict)
    _introduced: set[str] = field(default_factory=set)

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

    def mmu_fault(self, gpu: GpuModel, process: Process, va: int, kind: str, access: Access) -> None:
        """Xid 31: a channel is torn down for a fault that nobody can serve."""
        place = f"ENGINE GRAPHICS GPC0 GPCCLIENT_T1_0 faulted @ {va >> 32:#x}_{va & 0xFFFFFFFF:08x}"
        what = f"{place}. Fault is of type {kind} ACCESS_TYPE_VIRT_{access.upper()}"
        self._xid(gpu, XID_MMU_FAULT, f"Ch {process.channel:08x}, intr 00000000. MMU Fault: {what}", process)

    def fallen_off(self, gpu: GpuModel, process: Process) -> None:
        """Xid 79 and what goes with it; ``process`` is whose call met the loss."""
        self._xid(gpu, XID_FALLEN_OFF, "GPU has fallen off the bus.", process)
        self.publish(GpuEvent(gpu=gpu.bdf, event_type=EVENT_UNAVAILABLE, event_data=0))
        self.log.write(f"NVRM: GPU {gpu.bdf}: GPU has fallen off the bus.", ERR)
        for line in (
            "A GPU crash dump has been created. If possible, please run",
            "nvidia-bug-report.sh as root to collect this data before",
            "the NVIDIA kernel module is unloaded.",
        ):
            self.log.write(f"NVRM: {line}", ERR)
        self._recover(gpu, RECOVERY_GPU_RESET)

    def _recover(self, gpu: GpuModel, action: int) -> None:
        before = self.recovery.get(gpu.bdf, RECOVERY_NONE)
        self.recovery[gpu.bdf] = action
        self.publish(GpuEvent(gpu=gpu.bdf, event_type=EVENT_RECOVERY_ACTION, event_data=action))
        names = (f"{number:#x} ({_RECOVERY_NAMES[number]})" for number in (before, action))
        self._xid(gpu, XID_RECOVERY_ACTION, "GPU recovery action changed from {} to {}".format(*names), None)

    def _xid(self, gpu: GpuModel, number: int, message: str, process: Process | None) -> None:
        address = f"PCI:{gpu.bdf.rpartition('.')[0]}"
        if gpu.bdf not in self._introduced:
            self._introduced.add(gpu.bdf)
            self.log.write(f"NVRM: GPU at {address}: {gpu.uuid}", ERR)
        whose = f"pid={process.pid}, name={process.name}, " if process else ""
        self.log.write(f"NVRM: Xid ({address}): {number}, {whose}{message}", ERR)
        self.publish(GpuEvent(gpu=gpu.bdf, event_type=EVENT_XID, event_data=number))


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
