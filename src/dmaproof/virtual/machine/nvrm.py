"""What the NVIDIA kernel driver says when a GPU goes wrong.

Lines as open-gpu-kernel-modules 595.45 prints them: krcReportXid (kernel_rc.c), osHandleGpuLost (osinit.c),
RmLogGpuCrash (osapi.c), the recovery action (gpu.c).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dmaproof.virtual.machine.gpu import GpuModel
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


@dataclass(slots=True)
class Nvrm:
    """``publish`` takes events for NVML."""

    log: KernelLog
    publish: Callable[[GpuEvent], None]
    _introduced: set[str] = field(default_factory=set)

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
        before, gpu.health.recovery_action = gpu.health.recovery_action, action
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
