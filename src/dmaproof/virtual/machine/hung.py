"""Threads that the kernel finds blocked for too long (kernel/hung_task.c)."""

from __future__ import annotations

from dataclasses import dataclass

from dmaproof.virtual.machine.kmsg import ERR, INFO, KernelLog

TIMEOUT_S = 1
"""``kernel.hung_task_timeout_secs``: 120 by default; a model's time is shorter."""
RELEASE = "6.12.0"
KTHREADD = 2
"""The parent of every kernel thread."""
_MOST_WARNINGS = 10
_WAITS_FOR_A_LOCK = (
    "__schedule+0x3a0/0xb40",
    "schedule+0x27/0xf0",
    "schedule_preempt_disabled+0x15/0x30",
    "rwsem_down_write_slowpath+0x1e9/0x5f0",
    "down_write+0x6e/0x70",
)
CALLED_BY_PROGRAM = ("os_acquire_rwlock_write+0x35/0x50 [nvidia]", "nvidia_unlocked_ioctl+0x1d/0x40 [nvidia]")
BOTTOM_HALF = (
    "uvm_parent_gpu_service_replayable_faults+0x9d/0x1c60 [nvidia_uvm]",
    "_main_loop+0x89/0x150 [nvidia_uvm]",
)


@dataclass(slots=True)
class Blocked:
    """A thread in state D. ``callers`` is who came to the lock, innermost first."""

    pid: int
    comm: str
    since_s: float
    callers: tuple[str, ...] = CALLED_BY_PROGRAM
    ppid: int = 1
    told: int = 0

    def report(self, log: KernelLog, now_s: float) -> None:
        """Writes what the kernel says of the thread as often as its timeout has passed."""
        while self.told < _MOST_WARNINGS and self.since_s + (self.told + 1) * TIMEOUT_S <= now_s:
            self.told += 1
            for level, text in _lines(self, self.told * TIMEOUT_S):
                log.write(text, level)


def _lines(one: Blocked, seconds: int) -> list[tuple[int, str]]:
    """check_hung_task, and sched_show_task of kernel/sched/core.c."""
    who = f"pid:{one.pid:<5} tgid:{one.pid:<5} ppid:{one.ppid:<6}"
    return [
        (ERR, f"INFO: task {one.comm}:{one.pid} blocked for more than {seconds} seconds."),
        (ERR, f"      Tainted: G           O       {RELEASE} #1"),
        (ERR, '"echo 0 > /proc/sys/kernel/hung_task_timeout_secs" disables this message.'),
        (INFO, f"task:{one.comm:<15} state:D stack:0     {who} flags:0x00004006"),
        (INFO, "Call Trace:"),
        (INFO, " <TASK>"),
        *((INFO, f" {frame}") for frame in (*_WAITS_FOR_A_LOCK, *one.callers)),
        (INFO, " </TASK>"),
    ]
