"""Memory that CPU and GPU both use by one address."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from dmaproof.cuda.device import Device
from dmaproof.cuda.driver import cu
from dmaproof.cuda.memory.buffer import Buffer, address_of, view
from dmaproof.progress import note

SharedKind = Literal["managed", "malloc", "mmap-shared"]
"""``malloc`` is private to the process; ``mmap-shared`` (MAP_SHARED | MAP_ANONYMOUS) could be another's as well."""


@contextmanager
def shared(device: Device, kind: SharedKind, nbytes: int) -> Iterator[Buffer]:
    """Memory that CPU and GPU both use by one address: managed, or the process's own (HMM, ATS)."""
    with _SHARED[kind](device, nbytes) as buffer:
        note("allocation", va=buffer.address, nbytes=nbytes, memory=kind)
        yield buffer


@contextmanager
def managed(device: Device, nbytes: int) -> Iterator[Buffer]:
    """Of cuMemAllocManaged, for every GPU."""
    device.use()
    pointer = cu.cuMemAllocManaged(nbytes, cu.CUmemAttach_flags.CU_MEM_ATTACH_GLOBAL.value)
    try:
        yield view(int(pointer), nbytes)
    finally:
        device.use()
        cu.cuMemFree(pointer)


@contextmanager
def _malloced(_device: Device, nbytes: int) -> Iterator[Buffer]:
    """Whole pages of the heap, given back to the kernel first: an allocator hands out what was used before, and pages
    that a GPU has touched already would be no first touch."""
    page = os.sysconf("SC_PAGE_SIZE")
    nbytes_whole = -(-nbytes // page) * page
    libc = ctypes.CDLL(None, use_errno=True)
    libc.aligned_alloc.restype, libc.aligned_alloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t, ctypes.c_size_t]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    address = libc.aligned_alloc(page, nbytes_whole)
    if not address:
        raise MemoryError(f"aligned_alloc of {nbytes_whole} bytes failed")
    try:
        if libc.madvise(address, nbytes_whole, mmap.MADV_DONTNEED):
            raise OSError(ctypes.get_errno(), "madvise(MADV_DONTNEED)")
        yield view(address, nbytes)
    finally:
        libc.free(address)


@contextmanager
def _mapped_shared(_device: Device, nbytes: int) -> Iterator[Buffer]:
    """A mapping that fork(2) would share (mmap(2)): the kernel keeps its pages as those of a file."""
    with mmap.mmap(-1, nbytes, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS) as mapping:
        yield view(address_of(mapping), nbytes)


_SHARED = {"managed": managed, "malloc": _malloced, "mmap-shared": _mapped_shared}
