"""The process's own memory of every kind that a GPU may be given an address of (HMM, ATS), and managed memory."""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Literal

from dmaproof.cuda.device import Device
from dmaproof.cuda.memory import Buffer, SharedKind, hugepages, shared
from dmaproof.cuda.memory.buffer import address_of, view
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


@contextmanager
def _mapping(kind: MappedKind, nbytes: int) -> Iterator[int]:
    if kind in ("hugetlb", "hugetlb-shared"):
        made = hugepages.mapped(nbytes, shared=kind == "hugetlb-shared")
    elif kind == "mmap":
        made = mmap.mmap(-1, nbytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    else:
        made = _of_file(kind, nbytes)
    with made as mapping:
        yield address_of(mapping)


def _of_file(kind: MappedKind, nbytes: int) -> mmap.mmap:
    """Of an unlinked file: in memory, or on a disk, where /tmp often is memory."""
    with _memfd() if kind == "memfd" else tempfile.TemporaryFile(dir="/var/tmp") as file:
        file.truncate(nbytes)
        return mmap.mmap(file.fileno(), nbytes, mmap.MAP_PRIVATE if kind == "file-private" else mmap.MAP_SHARED)


def _memfd() -> IO[bytes]:
    return os.fdopen(os.memfd_create("dmaproof-shared"), "r+b")


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
