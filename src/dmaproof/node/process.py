"""A worker's process: started, watched and ended without a wait that has no bound.

A process in D state outlives SIGKILL, and whoever waits for it: so no Popen.wait without a time, no pipe for its output
(reading would wait too), and the process is known by a pidfd, since a pid may be somebody else's a moment later.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from dmaproof.node.channel import Channel
from dmaproof.node.deadline import Deadline


class Child(Protocol):
    """A process that this one has started."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...


Spawn = Callable[[int, Path, Path, Mapping[str, str]], Child]
"""Starts dmaproof.node.worker_main: the socket's descriptor, the output file, the file for stacks, environment."""
_left_behind: list[Child] = []
"""Processes that nothing could end. Kept, so that they are reaped once they do, and Popen does not complain."""


class Process:
    """One running worker. ``pid`` stays its own until ``reap``, for a process not reaped keeps its number."""

    def __init__(self, output: Path, stacks: Path, env: Mapping[str, str], spawn: Spawn | None = None) -> None:
        _reap_left_behind()
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            self._popen = (spawn or _spawn)(theirs.fileno(), output, stacks, env)
            self.pid = self._popen.pid
            self._pidfd = os.pidfd_open(self.pid)
            undo.pop_all()
        self.channel = Channel(ours)
        self.ready = False

    def wait_for_exit(self, deadline: Deadline) -> bool:
        """True once the whole process has ended, all its threads; False when ``deadline`` passes first."""
        return bool(_poll([self._pidfd], deadline))

    def wait_for_news(self, deadline: Deadline) -> bool:
        """Wait for a message or the end. False when ``deadline`` passes first. Raises ChannelClosed at the end."""
        ready = _poll([self.channel.fileno(), self._pidfd], deadline)
        if self.channel.fileno() in ready or self._pidfd in ready:
            # The channel first: an answer sent just before the end counts. Without one, fill() raises ChannelClosed.
            self.channel.fill()
        return bool(ready)

    def ask_for_stacks(self, number: signal.Signals) -> None:
        signal.pidfd_send_signal(self._pidfd, number)

    def signal_group(self, number: signal.Signals) -> None:
        """Signal the worker and the processes it started. Safe until ``reap``: the group's number cannot be reused."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def reap(self) -> int | None:
        """Close everything held of the process; its return code as Popen has it, or None if it will not end."""
        self.signal_group(signal.SIGKILL)  # what a workload left running
        code = self._popen.poll()
        self.channel.close()
        os.close(self._pidfd)
        if code is None:
            _left_behind.append(self._popen)
        return code


def end(process: Process, *, patience_s: float, term_s: float = 1.0, kill_s: float = 5.0) -> int | None:
    """End ``process``: close its channel, then SIGTERM, then SIGKILL, a wait after each. Returns what ``reap`` does."""
    try:
        process.channel.close()
        if not process.wait_for_exit(Deadline.after(patience_s)):
            process.signal_group(signal.SIGTERM)
            if not process.wait_for_exit(Deadline.after(term_s)):
                process.signal_group(signal.SIGKILL)
                process.wait_for_exit(Deadline.after(kill_s))
    finally:
        code = process.reap()
    return code


def _spawn(fd: int, output: Path, stacks: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """CUDA_VISIBLE_DEVICES passes through as it is: whoever set it (a scheduler, a person) said which GPUs are theirs.

    It cannot shift an address, for GPUs are named by BDF; a GPU that it hides is missing, loudly.
    """
    with output.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "dmaproof.node.worker_main", str(fd), str(stacks)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **env},
            pass_fds=(fd,),
            start_new_session=True,
        )


def _poll(fds: list[int], deadline: Deadline) -> list[int]:
    waiter = select.poll()
    for fd in fds:
        waiter.register(fd, select.POLLIN)
    return [fd for fd, _ in waiter.poll(deadline.remaining_s * 1000)]


def _reap_left_behind() -> None:
    _left_behind[:] = [popen for popen in _left_behind if popen.poll() is None]
