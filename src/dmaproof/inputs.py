"""Files that a person names, read so that none of them holds the program up for ever.

open(2) waits for the writer of a FIFO, and /dev/zero has no end.
"""

from __future__ import annotations

import os
import select
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from dmaproof.errors import UsageError

_CHUNK_NBYTES = 1 << 16
_PATIENCE_S = 5.0
_STEP_S = 0.05
_MEMORY = 1  # major number of /dev/mem, /dev/zero, /dev/random and the like: Documentation/admin-guide/devices.txt
_NULL, _KMSG = 3, 11


def chunks(path: str | Path, *, follow: bool = False) -> Iterator[bytes]:
    """The bytes of ``path`` as they come; ``follow``: of /dev/kmsg also what is still to come.

    Raises OSError where it cannot be read, UsageError where it would never begin or never end.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            yield from _first(fd, path)
        os.set_blocking(fd, follow or _memory_device(fd) != _KMSG)
        yield from chunks_of(fd, path)
    finally:
        os.close(fd)


def chunks_of(fd: int, name: str | Path) -> Iterator[bytes]:
    """The bytes of the open file ``fd`` as they come; ``name`` is what messages call it. Raises as ``chunks`` does."""
    if _memory_device(fd) not in (None, _NULL, _KMSG):
        raise UsageError(f"cannot read {name}: this device never ends; name a file")
    while True:
        try:
            data = os.read(fd, _CHUNK_NBYTES)
        except BrokenPipeError:  # /dev/kmsg: records were overwritten unread; the gap in their numbers tells how many
            continue
        except BlockingIOError:
            if _memory_device(fd) == _KMSG:
                return
            select.select([fd], [], [])  # standard input that somebody else made so
            continue
        if not data:
            return
        yield data


def whole(path: str | Path, most_nbytes: int) -> bytes:
    """All of ``path``. Raises as ``chunks`` does, and UsageError where there are more than ``most_nbytes``."""
    found = bytearray()
    for data in chunks(path):
        found += data
        if len(found) > most_nbytes:
            raise UsageError(f"cannot read {path}: it has more than {most_nbytes} bytes; is it the right file?")
    return bytes(found)


def _memory_device(fd: int) -> int | None:
    """The minor number of one of Linux' memory devices; None for everything else."""
    state = os.fstat(fd)
    if not stat.S_ISCHR(state.st_mode) or os.major(state.st_rdev) != _MEMORY:
        return None
    return os.minor(state.st_rdev)


def _first(fd: int, path: str | Path) -> Iterator[bytes]:
    """The first bytes of a FIFO, or nothing as soon as it has a writer, or had one that is gone."""
    gone = select.poll()
    gone.register(fd, 0)  # POLLHUP alone
    deadline_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline_s:
        try:
            data = os.read(fd, _CHUNK_NBYTES)
        except BlockingIOError:
            return
        if data:
            yield data
            return
        if gone.poll(0):
            return
        time.sleep(_STEP_S)
    raise UsageError(
        f"cannot read {path}: nobody has written into this FIFO in {_PATIENCE_S:g} s; start what writes into it first"
    )
