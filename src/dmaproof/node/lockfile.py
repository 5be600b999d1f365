"""Lock files that several users share: opening one, and who says to hold it."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from dmaproof import bdf
from dmaproof.node import proc

_MODE = 0o666
_LARGEST_NBYTES = 4096
_WHOLE_FILE = struct.Struct("hhqqi4x")
"""struct flock of 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid (0, or OFD locks are refused)."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who took a lock: a harness (``pid``) of ``run``, for its ``worker``.

    ``pid_started`` and ``worker_started`` are start times (clock ticks since boot) that tell a process from a later one
    of the same number.
    """

    run: str
    pid: int
    since: str
    pid_started: int | None = None
    worker: int | None = None
    worker_started: int | None = None
    unkillable: bool = False

    def __str__(self) -> str:
        return f"process {self.pid} of run {self.run}, since {self.since}"

    @property
    def harness_lives(self) -> bool:
        return proc.state(self.pid, self.pid_started) is not None

    @property
    def worker_state(self) -> str | None:
        """The worker's state letter, or None when it has ended."""
        return None if self.worker is None else proc.state(self.worker, self.worker_started)


_HOLDER = TypeAdapter(Holder)


def canonical(devices: Iterable[str]) -> list[str]:
    """``devices`` once each, as BDFs, in the one order in which everybody locks them. Raises UsageError."""
    return sorted({bdf.parse(device) for device in devices})


def stem(device: str) -> str:
    """How the files of ``device`` begin: ``dmaproof-0000_17_00.0``."""
    return f"dmaproof-{device.replace(':', '_')}"


def this_process(run_id: str, worker: int | None = None) -> Holder:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    pid = os.getpid()
    started = None if worker is None else proc.start_time(worker)
    return Holder(run_id, pid, now, proc.start_time(pid), worker, started)


def open_shared(path: Path) -> int:
    """A descriptor of ``path``, made if need be, that every user may open.

    Never O_CREAT on a file that is there: in a sticky folder the kernel refuses that for another user's file, to root
    too (fs.protected_regular, Documentation/admin-guide/sysctl/fs.rst). Raises OSError.
    """
    while True:
        try:
            return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            pass
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_CREAT | os.O_EXCL, _MODE)
        except FileExistsError:
            continue
        os.fchmod(fd, _MODE)  # the mode given to open is cut by the umask
        return fd


def try_exclusive(fd: int) -> bool:
    return _try(fd, fcntl.LOCK_EX)


def try_shared(fd: int) -> bool:
    """Take the lock shared, or turn an exclusive one into it. Turning is not atomic: another may come between."""
    return _try(fd, fcntl.LOCK_SH)


def _try(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def try_turn(fd: int) -> bool:
    """Become the next to take the lock, by a record lock of the open file (F_OFD_SETLK, fcntl(2)) beside its flock."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _WHOLE_FILE.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except BlockingIOError:
        return False
    return True


def end_turn(fd: int) -> None:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _WHOLE_FILE.pack(fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0))


def write(fd: int, holder: Holder) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, _HOLDER.dump_json(holder), 0)


def read(fd: int) -> Holder | None:
    """Who holds the lock, or None while that is being written (or is no word of ours)."""
    try:
        return _HOLDER.validate_json(os.pread(fd, _LARGEST_NBYTES, 0))
    except ValidationError:
        return None
