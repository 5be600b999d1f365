"""The kernel threads that serve GPUs' page faults, as /proc shows them (fs/proc/array.c, fs/proc/base.c)."""

from __future__ import annotations

from functools import lru_cache

from dmaproof.virtual.machine.gpu import GpuModel
from dmaproof.virtual.machine.hung import KTHREADD
from dmaproof.virtual.machine.tree import Tree
from dmaproof.virtual.machine.uvm import thread_comm, thread_pid

_TICKS_A_SECOND = 100  # sysconf(_SC_CLK_TCK)
_STATES = {"S": "sleeping", "D": "disk sleep", "R": "running"}
_UNLIMITED = (1 << 64) - 1
_ALL_SIGNALS = (1 << 31) - 1
_KTHREAD_FLAGS, _SIGCHLD = 0x208040, 17  # PF_KTHREAD | PF_NOFREEZE | PF_FORKNOEXEC
_LOOP = ("_main_loop+0x89/0x150 [nvidia_uvm]", "kthread+0xf9/0x240", "ret_from_fork+0x31/0x50")
_SERVICE = "uvm_parent_gpu_service_replayable_faults+0x9d/0x1c60 [nvidia_uvm]"
_STACKS = {
    "S": ("down_interruptible+0x43/0x60", *_LOOP),
    "D": ("rwsem_down_read_slowpath+0x2a5/0x560", "down_read+0x43/0xa0", _SERVICE, *_LOOP),
    "R": ("uvm_spin_loop+0x5c/0x110 [nvidia_uvm]", _SERVICE, *_LOOP),
}
_WCHANS = {"S": "_main_loop", "D": "rwsem_down_read_slowpath", "R": "0"}


def threads(gpus: list[GpuModel], now_s: float) -> Tree:
    """``proc/<pid>/`` of each GPU's thread: comm, stat, status, schedstat, wchan, stack."""
    tree: Tree = {}
    for gpu in gpus:
        ticks = int(gpu.bottom_half.ran_s(now_s) * _TICKS_A_SECOND)
        tree |= _thread(gpu.minor, gpu.bottom_half.state, ticks)
    return tree


@lru_cache(maxsize=256)
def _thread(minor: int, state: str, ticks: int) -> Tree:
    """Kept: it is asked for at every message, and seldom another."""
    pid, comm = thread_pid(minor), thread_comm(minor)
    return {
        f"proc/{pid}/comm": f"{comm}\n",
        f"proc/{pid}/stat": _stat(pid, comm, state, ticks),
        f"proc/{pid}/status": _status(pid, comm, state),
        f"proc/{pid}/schedstat": f"{ticks * 10**9 // _TICKS_A_SECOND} 0 1\n",
        f"proc/{pid}/wchan": _WCHANS[state],
        f"proc/{pid}/stack": "".join(f"[<0>] {frame}\n" for frame in _STACKS[state]),
    }


def _stat(pid: int, comm: str, state: str, ticks: int) -> str:
    """All 52 fields of proc_pid_stat(5); a kernel thread has no memory and runs on system time."""
    family, faults, times = [KTHREADD, 0, 0, 0, -1], [_KTHREAD_FLAGS, 0, 0, 0, 0], [0, ticks, 0, 0]
    order, memory = [20, 0, 1, 0, 512], [0, 0, _UNLIMITED, 0, 0, 0, 0, 0]
    signals, scheduling = [0, 0, _ALL_SIGNALS, 0, 1, 0, 0, _SIGCHLD], [0, 0, 0, 0, 0, 0]
    fields = [*family, *faults, *times, *order, *memory, *signals, *scheduling, *[0] * 8]
    return " ".join([str(pid), f"({comm})", state, *map(str, fields)]) + "\n"


def _status(pid: int, comm: str, state: str) -> str:
    lines = {"Name": comm, "Umask": "0000", "State": f"{state} ({_STATES[state]})", "Tgid": pid, "Ngid": 0, "Pid": pid}
    lines |= {"PPid": KTHREADD, "TracerPid": 0, "Kthread": 1, "Threads": 1}
    return "".join(f"{name}:\t{value}\n" for name, value in lines.items())
