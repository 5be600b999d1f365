"""What the NVIDIA kernel driver says and does when a GPU goes wrong: the line, the event for NVML, the follow-ups.

Lines as open-gpu-kernel-modules 595.45 prints them: krcReportXid (kernel_rc.c), osHandleGpuLost (osinit.c),
RmLogGpuCrash (osapi.c), the recovery action (gpu.c), _gpuGenerateErrorLog (kern_gpu_error_cont_ga100.c), GSP timeouts
(kernel_gsp.c), SVA (kernel-open/nvidia/nv-pci.c). Those of memory cells and NVLinks come from GSP firmware: as public
logs have them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from dmaproof.virtual.machine.gpu import BadCell, GpuModel
from dmaproof.virtual.machine.kmsg import ERR, KernelLog
from dmaproof.virtual.machine.uvm import Access
from dmaproof.virtual.wire import GpuEvent

VERSION = "595.45.04"
XID_GRAPHICS, XID_MMU_FAULT, XID_TRAP, XID_VICTIM, XID_DOUBLE_BIT, XID_ROW_REMAPPED = 13, 31, 43, 45, 48, 63
XID_NVLINK, XID_FALLEN_OFF, XID_CONTAINED, XID_UNCONTAINED, XID_GSP_TIMEOUT = 74, 79, 94, 95, 119
XID_NVLINK_RLW, XID_NVLINK_NETIR, XID_RECOVERY_ACTION = 145, 149, 154
EVENT_DOUBLE_BIT, EVENT_XID, EVENT_ROW_REMAPPED, EVENT_POISON, EVENT_POISON_FATAL = 0x2, 0x8, 0x400, 0x1000, 0x2000
EVENT_UNAVAILABLE, EVENT_RECOVERY_ACTION = 0x4000, 0x8000
EVENTS = (
    *(EVENT_DOUBLE_BIT, EVENT_XID, EVENT_ROW_REMAPPED, EVENT_POISON, EVENT_POISON_FATAL),
    *(EVENT_UNAVAILABLE, EVENT_RECOVERY_ACTION),
)
"""nvmlEventType* (nvml.h) that this driver raises."""
RECOVERY_NONE, RECOVERY_GPU_RESET, RECOVERY_NODE_REBOOT, RECOVERY_DRAIN_P2P, RECOVERY_DRAIN_AND_RESET = range(5)
_RECOVERY_NAMES = ("None", "GPU Reset Required", "Node Reboot Required", "Drain P2P", "Drain and Reset")
_ENODEV = 19
_GSP_TIMEOUT_S, _GSP_CONTROL = 6, 76
_BLACKWELL = 10


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
        self._event(gpu, EVENT_UNAVAILABLE)
        self.log.write(f"NVRM: GPU {gpu.bdf}: GPU has fallen off the bus.", ERR)
        for line in (
            "A GPU crash dump has been created. If possible, please run",
            "nvidia-bug-report.sh as root to collect this data before",
            "the NVIDIA kernel module is unloaded.",
        ):
            self.log.write(f"NVRM: {line}", ERR)
        self.recover(gpu, RECOVERY_GPU_RESET)

    def gsp_timeout(self, gpu: GpuModel, process: Process, sequence: int) -> None:
        """Xid 119: the system processor has not answered for six seconds, which the model's clock skips."""
        rule = "NVRM: " + " GSP Timeout ".center(80, "*")
        for line in (rule, "NVRM: Note: Please also check logs above."):
            self.log.write(line, ERR)
        wanted = f"Expected function {_GSP_CONTROL} (GSP_RM_CONTROL) sequence {sequence} (0x20801226 0x8)."
        who = f"GPU{gpu.minor} GSP!"
        text = f"Timeout after {_GSP_TIMEOUT_S}s of waiting for RPC response from {who} {wanted}"
        self._xid(gpu, XID_GSP_TIMEOUT, text, process)
        self.log.write("NVRM: " + "*" * 80, ERR)
        self._event(gpu, EVENT_UNAVAILABLE)
        self.recover(gpu, RECOVERY_GPU_RESET)

    def contained(self, gpu: GpuModel, process: Process) -> None:
        """Xid 94: poison reached an SM, and the process that ran there ends; nobody else does (error E10)."""
        gpu.health.ecc_uncorrectable += 1
        self._event(gpu, EVENT_DOUBLE_BIT)
        self._xid(gpu, XID_CONTAINED, "Contained: SM (0x1). RST: No, D-RST: No", process)
        self._event(gpu, EVENT_POISON)

    def uncontained(self, gpu: GpuModel, process: Process, users: Iterable[Process], cell: BadCell) -> None:
        """Xids 48, 63, 95: a framebuffer cell is bad and the error got out; every channel ends (error E09)."""
        gpu.health.ecc_uncorrectable += 1
        place = f"in the framebuffer at physAddr {cell.address:#x} partition 3, subpartition 0"
        what = f"An uncorrectable double bit error (DBE) has been detected on GPU {place}."
        self._xid(gpu, XID_DOUBLE_BIT, what, process)
        self._event(gpu, EVENT_DOUBLE_BIT)
        self.remap_row(gpu, process, cell.address)
        self._xid(gpu, XID_UNCONTAINED, "Uncontained: FBHUB. RST: Yes, D-RST: No", process)
        self._event(gpu, EVENT_POISON_FATAL)
        self._end_channels(gpu, users, XID_UNCONTAINED)
        self._event(gpu, EVENT_UNAVAILABLE)
        self.recover(gpu, RECOVERY_GPU_RESET)

    def remap_row(self, gpu: GpuModel, process: Process, address: int) -> None:
        """Xid 63: a spare row is to stand in for a bad one, from the next reset on."""
        gpu.health.remap_pending, gpu.health.rows_remapped = True, gpu.health.rows_remapped + 1
        row = f"New row ({address:#018x}) marked for remapping, reset gpu to activate."
        self._xid(gpu, XID_ROW_REMAPPED, f"Row Remapper: {row}", process)
        self._event(gpu, EVENT_ROW_REMAPPED)

    def nvlink_fatal(self, gpu: GpuModel, users: Iterable[Process], link: int) -> None:
        """Xid 74, since Blackwell 149: a link met what it cannot correct; peers are cut off, and work ends."""
        number = XID_NVLINK_NETIR if _generation(gpu) >= _BLACKWELL else XID_NVLINK
        rest = ", ".join(["0x0"] * 4)
        text = f"NVLink: fatal error detected on link {link}(0x0, 0x0, 0x10000, {rest})"
        if number == XID_NVLINK_NETIR:
            text = f"NETIR_LINK_EVT Fatal XC0 i0 Link {link:02} {_words(0x026001C6)}"
        self._xid(gpu, number, text, None)
        self._end_channels(gpu, users, number)
        self.recover(gpu, RECOVERY_GPU_RESET)

    def nvlink_nonfatal(self, gpu: GpuModel, link: int) -> None:
        """Xid 145: a link went down, and traffic goes on over the others."""
        self._xid(gpu, XID_NVLINK_RLW, f"RLW_RXPIPE Nonfatal XC0 i0 Link {link:02} {_words(0x0409A0C2, 8, 1)}", None)

    def engine_reset(self, gpu: GpuModel, guilty: Process, users: Iterable[Process]) -> None:
        """Xid 13 of one process; the engine is reset, and the channels of all others on it end with Xid 45."""
        what = "Graphics SM Warp Exception on (GPC 2, TPC 1, SM 0): Out Of Range Address"
        self._xid(gpu, XID_GRAPHICS, what, guilty)
        self._end_channels(gpu, users, XID_GRAPHICS)

    def victim(self, gpu: GpuModel, process: Process, cause: int) -> None:
        """Xid 45: a channel is removed for what another did, ``cause`` being the Xid of that."""
        self._xid(gpu, XID_VICTIM, f"Ch {process.channel:08x} caused by previous Xid {cause}", process)

    def trapped(self, gpu: GpuModel, process: Process) -> None:
        """Xid 43: a channel's work has given itself up (ROBUST_CHANNEL_RESETCHANNEL_VERIF_ERROR)."""
        self._xid(gpu, XID_TRAP, f"channel {process.channel:#010x}", process)

    def killed(self, gpu: GpuModel, process: Process) -> None:
        """Xid 45: the process is gone while its kernel ran, and its channel is removed."""
        self._xid(gpu, XID_VICTIM, f"Ch {process.channel:08x}", process)

    def no_sva(self, gpu: GpuModel) -> None:
        """The kernel gives the GPU no shared virtual addressing: no ATS, then."""
        self.log.write(f"NVRM: GPU {gpu.bdf}: Enabling SMMU SVA feature failed! ret: -{_ENODEV}", ERR)

    def recover(self, gpu: GpuModel, action: int) -> None:
        """The driver finds that ``action`` is needed to get ``gpu`` back."""
        before, gpu.health.recovery_action = gpu.health.recovery_action, action
        if before == action:
            return
        self._event(gpu, EVENT_RECOVERY_ACTION, action)
        names = (f"{number:#x} ({_RECOVERY_NAMES[number]})" for number in (before, action))
        self._xid(gpu, XID_RECOVERY_ACTION, "GPU recovery action changed from {} to {}".format(*names), None)

    def _end_channels(self, gpu: GpuModel, users: Iterable[Process], cause: int) -> None:
        for process in users:
            self.victim(gpu, process, cause)

    def _event(self, gpu: GpuModel, kind: int, data: int = 0) -> None:
        self.publish(GpuEvent(gpu=gpu.bdf, event_type=kind, event_data=data))

    def _xid(self, gpu: GpuModel, number: int, message: str, process: Process | None) -> None:
        address = f"PCI:{gpu.bdf.rpartition('.')[0]}"
        if gpu.bdf not in self._introduced:
            self._introduced.add(gpu.bdf)
            self.log.write(f"NVRM: GPU at {address}: {gpu.uuid}", ERR)
        whose = f"pid={process.pid}, name={process.name}, " if process else ""
        self.log.write(f"NVRM: Xid ({address}): {number}, {whose}{message}", ERR)
        self._event(gpu, EVENT_XID, number)


def _words(*known: int) -> str:
    """The six status words of NVLink Xids since Hopper."""
    return "(" + " ".join(f"{word:#010x}" for word in (*known, *[0] * (6 - len(known)))) + ")"


def _generation(gpu: GpuModel) -> int:
    return int((gpu.rig.compute_capability or "9.0").partition(".")[0])
