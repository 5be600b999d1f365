"""Memory that processes of one machine share: files without a name (memfd_create(2)), which live as long as anyone
has them open or mapped, however those processes end."""

from __future__ import annotations

import json
import mmap
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from dmaproof.virtual.driver.chunks import Bytes
from dmaproof.virtual.driver.errors import CuResult, DriverError

_PREFIX = "dmaproof:"
_LINK = "/memfd:"


@dataclass(frozen=True, slots=True)
class Label:
    """What a file holds, written in its name, where nobody can change it: ``kind`` (``memory``, ``vmm``, ``event``,
    ``pool``, ``pooled``), ``place`` (a GPU's BDF or ``host``), ``nbytes`` of content, ``numa`` node of host memory,
    ``handle_types`` as asked for at its creation, ``pool``: the inode of the pool's own file."""

    kind: str
    place: str
    nbytes: int
    numa: int = 0
    handle_types: int = 0
    pool: int = 0


def create(label: Label) -> int:
    """The descriptor of a new file of ``label.nbytes`` zeros. OUT_OF_MEMORY."""
    fd = os.memfd_create(_PREFIX + json.dumps(asdict(label), separators=(",", ":")), os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, label.nbytes)
    except OSError:
        os.close(fd)
        raise DriverError(CuResult.OUT_OF_MEMORY) from None
    return fd


def label(fd: int) -> Label:
    """What the file behind ``fd`` holds. INVALID_VALUE for any other file, and for a descriptor that is closed."""
    try:
        name = str(Path(f"/proc/self/fd/{fd}").readlink())
    except OSError:
        raise DriverError(CuResult.INVALID_VALUE) from None
    text = name.removesuffix(" (deleted)").removeprefix(_LINK)
    if not name.startswith(_LINK) or not text.startswith(_PREFIX):
        raise DriverError(CuResult.INVALID_VALUE)
    return Label(**json.loads(text.removeprefix(_PREFIX)))


def content(fd: int) -> Bytes:
    """The bytes of the file, mapped for as long as anyone refers to them."""
    return np.frombuffer(mmap.mmap(fd, os.fstat(fd).st_size, mmap.MAP_SHARED), np.uint8)


def open_of_process(pid: int, fd: int, inode: int) -> int:
    """A descriptor of our own for what process ``pid`` has open as ``fd``. INVALID_VALUE where that is gone, or the
    number means another file by now."""
    try:
        ours = os.open(f"/proc/{pid}/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        raise DriverError(CuResult.INVALID_VALUE) from None
    if os.fstat(ours).st_ino != inode:
        os.close(ours)
        raise DriverError(CuResult.INVALID_VALUE)
    return ours
