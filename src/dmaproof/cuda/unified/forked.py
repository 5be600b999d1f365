"""A forked child that looks at memory and ends: it calls no CUDA, which no child forked after cuInit may."""

from __future__ import annotations

import os
import resource
import select
import signal
import struct
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from dmaproof.cuda.memory import Words
from dmaproof.errors import DmaproofError
from dmaproof.parent import die_with_parent

_LIMIT_S = 10
_ANSWER = struct.Struct("q")


class ChildStuck(DmaproofError):  # noqa: N818 - an outcome
    """The child neither answered nor ended."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How the child ended: by what it found (words that differ), or by a signal."""

    wrong_words: int | None
    signal: int | None


@dataclass(slots=True)
class Child:
    """A child that waits to be told to look. ``look`` once."""

    pid: int
    tell: int
    hear: int
    ended: Ended | None = None

    def look(self) -> Ended:
        """Have it look. Raises ChildStuck after ten seconds."""
        os.write(self.tell, b"!")
        heard, _, _ = select.select([self.hear], [], [], _LIMIT_S)
        if not heard:
            raise ChildStuck(f"process {self.pid} has not read the memory of its parent within {_LIMIT_S} s")
        answer = os.read(self.hear, _ANSWER.size)  # empty where it ended without one
        status = self._status()
        killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        self.ended = Ended(_ANSWER.unpack(answer)[0] if answer else None, killed)
        return self.ended

    def _status(self) -> int:
        until = time.monotonic() + _LIMIT_S
        while time.monotonic() < until:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return status
            time.sleep(0.001)
        raise ChildStuck(f"process {self.pid} does not end")


@contextmanager
def reader(words: Words, expected: Words) -> Iterator[Child]:
    """A child that will compare ``words`` with ``expected``, as both are now."""
    tell, hear = os.pipe(), os.pipe()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads: it takes none of their locks
            pid = os.fork()
        if pid == 0:
            _be_the_child(words, expected, tell[0], hear[1])
        os.close(hear[1])
        child = Child(pid, tell[1], hear[0])
        try:
            yield child
        finally:
            if child.ended is None:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)
    finally:
        for fd in (*tell, hear[0]):
            os.close(fd)


def _be_the_child(words: Words, expected: Words, heed: int, answer: int) -> NoReturn:
    """Whatever happens ends the child: nothing of the parent's may run in it."""
    try:
        die_with_parent()
        signal.alarm(2 * _LIMIT_S)
        for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGALRM, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.read(heed, 1)
        os.write(answer, _ANSWER.pack(int(np.count_nonzero(words != expected))))
    finally:
        os._exit(0)
