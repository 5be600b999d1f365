"""A thread that dies in the kernel driver: it reads where nothing is (arch/x86/mm/fault.c, arch/arm64/mm/fault.c)."""

from __future__ import annotations

from dataclasses import dataclass

from dmaproof.virtual.machine.hung import RELEASE
from dmaproof.virtual.machine.kmsg import INFO, KernelLog

ALERT, EMERG = 1, 0
_PAGE_NBYTES = 4096
_PLACE = "_nv014228rm+0x36/0x90 [nvidia]"
_CALLERS = (
    "_nv033571rm+0x11c/0x2a0 [nvidia]",
    "rm_ioctl+0x58/0xb0 [nvidia]",
    "nvidia_unlocked_ioctl+0x1d/0x40 [nvidia]",
)
_TAINTED = "Tainted: G           OE"


@dataclass(slots=True)
class Bug:
    """The driver follows a pointer to ``address``, where nothing is: in the first page that is no pointer at all."""

    address: int
    told: int = 0

    def report(self, log: KernelLog, arm: bool, pid: int, name: str) -> None:
        """What the kernel says as thread ``pid`` dies of it."""
        self.told += 1
        for level, text in _lines(self, arm, pid, name):
            log.write(text, level)

    @property
    def is_null(self) -> bool:
        return self.address < _PAGE_NBYTES


def _lines(bug: Bug, arm: bool, pid: int, name: str) -> list[tuple[int, str]]:
    """What happened, who ran (dump_stack_print_info, lib/dump_stack.c), where, and the calls that led there."""
    registers = (
        (f"pc : {_PLACE}", f"lr : {_CALLERS[0]}") if arm else (f"RIP: 0010:{_PLACE}", f"CR2: {bug.address:016x}")
    )
    return [
        *(_arm64 if arm else _x86)(bug),
        (INFO, f"CPU: 3 UID: 0 PID: {pid} Comm: {name} {_TAINTED}      {RELEASE} #1"),
        *((INFO, text) for text in registers),
        (INFO, "Call trace:" if arm else "Call Trace:"),
        *((INFO, f" {frame}") for frame in (_PLACE, *_CALLERS)),
        (INFO, "---[ end trace 0000000000000000 ]---"),
    ]


def _x86(bug: Bug) -> list[tuple[int, str]]:
    """show_fault_oops and __die."""
    what = "kernel NULL pointer dereference, address" if bug.is_null else "unable to handle page fault for address"
    return [
        (ALERT, f"BUG: {what}: {bug.address:016x}"),
        (ALERT, "#PF: supervisor read access in kernel mode"),
        (ALERT, "#PF: error_code(0x0000) - not-present page"),
        (INFO, "PGD 0 P4D 0 "),
        (EMERG, f"Oops: Oops: 0000 [#{bug.told}] PREEMPT SMP NOPTI"),
    ]


def _arm64(bug: Bug) -> list[tuple[int, str]]:
    """die_kernel_fault and __die."""
    what = "NULL pointer dereference" if bug.is_null else "paging request"
    return [
        (ALERT, f"Unable to handle kernel {what} at virtual address {bug.address:016x}"),
        (ALERT, "Mem abort info:"),
        (ALERT, "  ESR = 0x0000000096000005"),
        (EMERG, f"Internal error: Oops: 0000000096000005 [#{bug.told}]  SMP"),
    ]
