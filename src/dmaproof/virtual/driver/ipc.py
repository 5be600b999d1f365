"""What processes hand each other of memory and events: 64 bytes that name a file which the exporter has open."""

from __future__ import annotations

import ctypes
import os
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dmaproof.virtual.driver import shared_files
from dmaproof.virtual.driver.address_space import Allocation
from dmaproof.virtual.driver.errors import CuResult, DriverError
from dmaproof.virtual.driver.shared_files import Label

_LAYOUT = struct.Struct("8sIIQ")
_MAGIC = b"dmaproof"


class Handle(ctypes.Structure):
    """CUipcMemHandle and CUipcEventHandle (cuda.h)."""

    _fields_ = (("reserved", ctypes.c_ubyte * 64),)


@dataclass(frozen=True, slots=True)
class Export:
    """File ``fd`` of process ``pid``. Its ``inode`` tells it from what the number may mean later."""

    pid: int
    fd: int
    inode: int

    def write(self, address: int) -> None:
        """As a handle at ``address``."""
        data = _LAYOUT.pack(_MAGIC, self.pid, self.fd, self.inode).ljust(ctypes.sizeof(Handle), b"\0")
        ctypes.memmove(address, data, len(data))

    def open(self, kind: str) -> tuple[int, Label]:
        """A descriptor of our own for the file, and what is in it. INVALID_CONTEXT in the process that exported it,
        INVALID_VALUE where it is gone or holds something else."""
        if self.pid == os.getpid():
            raise DriverError(CuResult.INVALID_CONTEXT)
        fd = shared_files.open_of_process(self.pid, self.fd, self.inode)
        found = shared_files.label(fd)
        if found.kind != kind:
            os.close(fd)
            raise DriverError(CuResult.INVALID_VALUE)
        return fd, found


def of_file(fd: int) -> Export:
    """What names our file ``fd`` to others."""
    return Export(os.getpid(), fd, os.fstat(fd).st_ino)


def read(handle: Handle) -> Export:
    """What ``handle`` names. INVALID_VALUE for bytes that no cuIpcGet call wrote."""
    magic, pid, fd, inode = _LAYOUT.unpack_from(bytes(handle))
    if magic != _MAGIC:
        raise DriverError(CuResult.INVALID_VALUE)
    return Export(pid, fd, inode)


@dataclass(slots=True)
class Opened:
    """Memory of another process, opened ``count`` times by the same context."""

    allocation: Allocation
    count: int = 1


class SharedEvent:
    """How often an event was recorded, and up to which record the work is done, as all its processes see it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._words: npt.NDArray[np.uint64] = shared_files.content(fd).view(np.uint64)

    def record(self) -> int:
        """The number of a new record."""
        self._words[0] += np.uint64(1)
        return self.recorded

    def finish(self, number: int) -> None:
        self._words[1] = max(int(self._words[1]), number)

    @property
    def recorded(self) -> int:
        return int(self._words[0])

    def done(self, number: int) -> bool:
        return int(self._words[1]) >= number


def new_event(place: str) -> SharedEvent:
    return SharedEvent(shared_files.create(Label("event", place, 16)))
