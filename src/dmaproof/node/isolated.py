"""Run a function in a forked process under a bound, for reads that may never come back.

Why not a thread: one that gets stuck in the kernel (reading the config space of a dead GPU, an NVML call into a wedged
driver) cannot be abandoned, because a process with a thread in D state never ends: the harness would hang at its exit.
A process can be left behind. Why fork: the function may be any closure, and the harness never calls CUDA, so it may
fork. A lock of another thread may be held for ever in the copy; then the bound ends it, as it ends any other wait.

The copy has no descriptor of the harness (it must keep neither device locks nor the channel of a worker open, should it
get stuck), so the function opens what it reads.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from dmaproof.node.deadline import Deadline
from dmaproof.parent import die_with_parent

_KILL_S = 0.1
_left_behind: list[int] = []


@dataclass(frozen=True, slots=True)
class Outcome:
    """``text`` is what the function returned (``ok``), or how it failed."""

    ok: bool
    text: str


@dataclass(frozen=True, slots=True)
class Running:
    """A function at work in a forked process. ``collect`` it exactly once."""

    pid: int
    pidfd: int
    result: int

    def collect(self, deadline: Deadline) -> Outcome:
        """What it said, or that it did not come back by ``deadline``."""
        try:
            if not _wait(self.pidfd, deadline.remaining_s):
                return Outcome(False, f"did not come back within {deadline.seconds:g} s{self._kill()}")
            _, status = os.waitpid(self.pid, os.WNOHANG)
            text = os.pread(self.result, os.fstat(self.result).st_size, 0).decode(errors="replace")
            return Outcome(status == 0, text or ("" if status == 0 else f"ended with wait status {status}"))
        finally:
            os.close(self.pidfd)
            os.close(self.result)

    def _kill(self) -> str:
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        if _wait(self.pidfd, _KILL_S):
            os.waitpid(self.pid, os.WNOHANG)
            return ""
        _left_behind.append(self.pid)
        return f", and process {self.pid} that ran it cannot be killed"


def start(function: Callable[[], str]) -> Running:
    """Start ``function`` in a forked process. The result goes through a memfd: a pipe could fill, and block."""
    _reap_left_behind()
    result = os.memfd_create("dmaproof-isolated")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forking with threads: see above
        pid = os.fork()
    if pid == 0:
        _be_the_copy(function, result)
    return Running(pid, os.pidfd_open(pid), result)


def _be_the_copy(function: Callable[[], str], result: int) -> NoReturn:
    code = 1
    try:
        gc.disable()  # nothing of the harness may be finalised twice
        die_with_parent()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        _close_all_but(result)
        try:
            text, code = function(), 0
        except Exception as error:  # noqa: BLE001 - how a capture fails is what it has to say
            text = "".join(traceback.format_exception_only(error)).strip()
        _write_all(result, text.encode(errors="replace"))
    finally:
        os._exit(code)


def _close_all_but(result: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):  # kept open on nothing: the next file opened must not become standard output
        os.dup2(null, fd)
    os.closerange(3, result)
    os.closerange(result + 1, os.sysconf("SC_OPEN_MAX"))


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _wait(fd: int, timeout_s: float) -> bool:
    waiter = select.poll()
    waiter.register(fd, select.POLLIN)
    return bool(waiter.poll(timeout_s * 1000))


def _reap_left_behind() -> None:
    _left_behind[:] = [pid for pid in _left_behind if os.waitpid(pid, os.WNOHANG)[0] == 0]
