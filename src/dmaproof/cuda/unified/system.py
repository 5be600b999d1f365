"""The process's own memory of every kind that a GPU may be given an address of (HMM, ATS), and managed memory."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np

from dmaproof.cuda.device import Device
from dmaproof.cuda.memory import Buffer, SharedKind, shared
from dmaproof.errors import Unsupported
from dmaproof.progress import note

MappedKind = Literal["stack", "mmap", "memfd", "file", "file-private", "hugetlb", "hugetlb-shared"]
"""``stack``: a thread's own. ``mmap``: private and of no file. ``memfd``, ``file`` (MAP_SHARED) and ``file-private``:
mappings of a file, in memory or on a disk. ``hugetlb``: of the kernel's pool of huge pages (vm.nr_hugepages)."""
Kind = Literal[SharedKind, MappedKind]
SYSTEM_KINDS: tuple[Kind, ...] = (
    *("malloc", "stack", "mmap", "mmap-shared", "memfd", "file", "file-private", "hugetlb", "hugetlb-shared"),
)
PAGE_NBYTES = mmap.PAGESIZE
_MAP_HUGETLB = 0x40000  # include/uapi/asm-generic/mman.h; also x86 and arm64
_CALLS_NBYTES = 8 << 20
"""What the thread whose stack is lent needs of it at most, with the driver's calls."""


@contextmanager
def memory(device: Device, kind: Kind, nbytes: int) -> Iterator[Buffer]:
    """``nbytes`` of memory of ``kind``. Raises Unsupported where the system has none to give."""
    if kind == "managed" or kind == "malloc" or kind == "mmap-shared":
        with shared(device, kind, nbytes) as buffer:
            yield buffer
        return
    with _on_stack(nbytes) if kind == "stack" else _mapping(kind, nbytes) as address:
        note("allocation", va=address, nbytes=nbytes, memory=kind)
        yield view(address, nbytes)


def view(address: int, nbytes: int) -> Buffer:
    """Memory of this process that somebody else keeps mapped."""
    words = np.ctypeslib.as_array((ctypes.c_uint32 * (nbytes // 4)).from_address(address))
    return Buffer(address, nbytes, words)


@contextmanager
def _mapping(kind: MappedKind, nbytes: int) -> Iterator[int]:
    fd, flags, length = -1, mmap.MAP_PRIVATE, nbytes
    if kind in ("memfd", "file", "file-private"):
        fd, flags = _file(kind, nbytes), mmap.MAP_PRIVATE if kind == "file-private" else mmap.MAP_SHARED
    else:
        flags = mmap.MAP_ANONYMOUS | (mmap.MAP_SHARED if kind == "hugetlb-shared" else mmap.MAP_PRIVATE)
    if kind in ("hugetlb", "hugetlb-shared"):
        flags |= _MAP_HUGETLB
        length = -(-nbytes // _huge_page_nbytes()) * _huge_page_nbytes()
    try:
        mapping = _map(fd, length, flags, kind)
    finally:
        if fd >= 0:
            os.close(fd)
    with mapping:
        words = np.frombuffer(mapping, np.uint8)
        address = words.ctypes.data
        del words  # a view of the mapping would keep it from being closed
        yield int(address)


def _map(fd: int, length: int, flags: int, kind: MappedKind) -> mmap.mmap:
    try:
        return mmap.mmap(fd, length, flags)
    except OSError as error:
        if not flags & _MAP_HUGETLB:
            raise
        raise Unsupported(
            f"no {length >> 20} MiB of huge pages for {kind} memory ({error.strerror}): write a number to "
            "/proc/sys/vm/nr_hugepages"
        ) from error


def _file(kind: MappedKind, nbytes: int) -> int:
    """An unlinked file of ``nbytes``."""
    if kind == "memfd":
        fd = os.memfd_create("dmaproof-shared")
    else:
        with tempfile.TemporaryFile(dir="/var/tmp") as file:  # on a disk, where /tmp often is memory
            fd = os.dup(file.fileno())
    os.ftruncate(fd, nbytes)
    return fd


def _huge_page_nbytes() -> int:
    """The size that MAP_HUGETLB without a size takes."""
    found = re.search(r"^Hugepagesize:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    if found is None:
        raise Unsupported("/proc/meminfo names no Hugepagesize: this kernel has no huge pages to give")
    return int(found[1]) << 10


@contextmanager
def _on_stack(nbytes: int) -> Iterator[int]:
    """The far end of the stack of a thread that does nothing but wait."""
    told, done = list[int](), threading.Event()
    ready = threading.Event()

    def wait() -> None:
        told.append(_lowest_of_stack())
        ready.set()
        done.wait()

    before = threading.stack_size(-(-nbytes // PAGE_NBYTES) * PAGE_NBYTES + _CALLS_NBYTES)
    try:
        thread = threading.Thread(target=wait, name="stack-lender", daemon=True)
        thread.start()
    finally:
        threading.stack_size(before)
    ready.wait()
    try:
        yield told[0]
    finally:
        done.set()
        thread.join()


def _lowest_of_stack() -> int:
    """The lowest usable address of the calling thread's stack: pthread_getattr_np(3), which leaves the guard out."""
    libc, attributes = ctypes.CDLL(None), ctypes.create_string_buffer(64)  # sizeof(pthread_attr_t), 56 or 64
    libc.pthread_self.restype = ctypes.c_void_p
    lowest, nbytes = ctypes.c_void_p(), ctypes.c_size_t()
    if libc.pthread_getattr_np(ctypes.c_void_p(libc.pthread_self()), attributes):
        raise Unsupported("pthread_getattr_np does not tell where a thread's stack is")
    try:
        libc.pthread_attr_getstack(attributes, ctypes.byref(lowest), ctypes.byref(nbytes))
    finally:
        libc.pthread_attr_destroy(attributes)
    start = lowest.value or 0
    return -(-start // PAGE_NBYTES) * PAGE_NBYTES
