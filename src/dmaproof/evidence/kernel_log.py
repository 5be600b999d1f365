"""The kernel log as a whole, from the oldest record that is still there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from dmaproof.errors import NodeError

_READ_NBYTES = 1 << 16


def since_boot(path: Path, most_nbytes: int | None = None) -> tuple[bytes, ...]:
    """What ``path`` (``/dev/kmsg``) gives, read by read, without waiting for more, and no more than ``most_nbytes``: a
    log that is flooded never ends. Raises NodeError if unreadable.

    Records overwritten while reading are passed over: the device goes on at the oldest that is left (EPIPE).
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise NodeError(f"{path} cannot be read: {error.strerror}; run as root, or give CAP_SYSLOG") from None
    try:
        return tuple(_bounded(_reads(fd), most_nbytes))
    except OSError as error:
        raise NodeError(f"{path} cannot be read: {error.strerror}") from None
    finally:
        os.close(fd)


def _bounded(reads: Iterator[bytes], most_nbytes: int | None) -> Iterator[bytes]:
    left = most_nbytes
    for data in reads:
        if left is not None:
            left -= len(data)
            if left < 0:
                return
        yield data


def _reads(fd: int) -> Iterator[bytes]:
    while True:
        try:
            data = os.read(fd, _READ_NBYTES)
        except BrokenPipeError:
            continue
        except BlockingIOError:
            return
        if not data:
            return
        yield data
