"""Memory of every kind a transfer can start or end in, each released when its ``with`` block ends."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dmaproof.cuda.device import Device
from dmaproof.cuda.driver import cu
from dmaproof.errors import UsageError
from dmaproof.progress import note

Words = np.ndarray[Any, np.dtype[np.uint32]]
SharedKind = Literal["managed", "malloc", "mmap-shared"]
"""``malloc`` is private to the process; ``mmap-shared`` (MAP_SHARED | MAP_ANONYMOUS) could be another's as well."""


@dataclass(frozen=True, slots=True)
class Buffer:
    """``nbytes`` at ``address``; ``words`` is the CPU's view of them, where it has one."""

    address: int
    nbytes: int
    words: Words | None = None

    @property
    def nwords(self) -> int:
        return self.nbytes // 4

    @property
    def cpu(self) -> Words:
        if self.words is None:
            raise UsageError("device memory has no CPU view: copy it first")
        return self.words


def _view(address: int, nbytes: int) -> Words:
    return np.ctypeslib.as_array((ctypes.c_uint32 * (nbytes // 4)).from_address(address))


@contextmanager
def on_device(device: Device, nbytes: int) -> Iterator[Buffer]:
    """Memory of one GPU (cuMemAlloc)."""
    device.use()
    pointer = cu.cuMemAlloc(nbytes)
    note("allocation", va=int(pointer), nbytes=nbytes, memory=f"device {device.bdf}")
    try:
        yield Buffer(int(pointer), nbytes)
    finally:
        device.use()
        cu.cuMemFree(pointer)


@contextmanager
def pinned(device: Device, nbytes: int) -> Iterator[Buffer]:
    """Page-locked host memory, mapped for every context (cuMemHostAlloc PORTABLE | DEVICEMAP), on ``device``'s node."""
    device.use()
    with near(device.bdf):
        pointer = cu.cuMemHostAlloc(nbytes, cu.CU_MEMHOSTALLOC_PORTABLE | cu.CU_MEMHOSTALLOC_DEVICEMAP)
    address = int(pointer)
    try:
        yield Buffer(address, nbytes, _view(address, nbytes))
    finally:
        device.use()
        cu.cuMemFreeHost(address)


@contextmanager
def shared(device: Device, kind: SharedKind, nbytes: int) -> Iterator[Buffer]:
    """Memory that CPU and GPU both use by one address: managed, or the process's own (HMM, ATS)."""
    with _SHARED[kind](device, nbytes) as buffer:
        note("allocation", va=buffer.address, nbytes=nbytes, memory=kind)
        yield buffer


@contextmanager
def _managed(device: Device, nbytes: int) -> Iterator[Buffer]:
    device.use()
    pointer = cu.cuMemAllocManaged(nbytes, cu.CUmemAttach_flags.CU_MEM_ATTACH_GLOBAL.value)
    try:
        yield Buffer(int(pointer), nbytes, _view(int(pointer), nbytes))
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
        yield Buffer(address, nbytes, _view(address, nbytes))
    finally:
        libc.free(address)


@contextmanager
def _mapped_shared(_device: Device, nbytes: int) -> Iterator[Buffer]:
    """A mapping that fork(2) would share (mmap(2)): the kernel keeps its pages as those of a file."""
    with mmap.mmap(-1, nbytes, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS) as mapping:
        words = np.frombuffer(mapping, np.uint32, nbytes // 4)
        address = words.ctypes.data
        del words  # a view of the mapping would keep it from being closed
        yield Buffer(address, nbytes, _view(address, nbytes))


_SHARED = {"managed": _managed, "malloc": _malloced, "mmap-shared": _mapped_shared}


@contextmanager
def near(bdf: str) -> Iterator[None]:
    """The calling thread on the CPUs of the GPU's NUMA node, if it may run there: memory lies where it is touched.

    Rates of pinned memory on the other socket are that socket's, and vary from run to run.
    """
    allowed = os.sched_getaffinity(0)
    local = _local_cpus(bdf) & allowed
    os.sched_setaffinity(0, local or allowed)
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _local_cpus(bdf: str) -> set[int]:
    """``/sys/bus/pci/devices/<bdf>/local_cpulist`` (``0-3,8``); none where it is not told."""
    try:
        text = Path("/sys/bus/pci/devices", bdf, "local_cpulist").read_text().strip()
    except OSError:
        return set()
    spans = [part.partition("-") for part in text.split(",") if part]
    return {cpu for first, _, last in spans for cpu in range(int(first), int(last or first) + 1)}
