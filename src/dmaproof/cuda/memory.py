"""Memory of every kind a transfer can start or end in, each released when its ``with`` block ends."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dmaproof.cuda.device import Device
from dmaproof.cuda.driver import cu
from dmaproof.errors import UsageError
from dmaproof.progress import note

Words = np.ndarray[Any, np.dtype[np.uint32]]
SharedKind = Literal["managed", "malloc"]
_PAGE_NBYTES = 4096


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
    """Page-locked host memory, mapped for every context (cuMemHostAlloc PORTABLE | DEVICEMAP)."""
    device.use()
    pointer = cu.cuMemHostAlloc(nbytes, cu.CU_MEMHOSTALLOC_PORTABLE | cu.CU_MEMHOSTALLOC_DEVICEMAP)
    address = int(pointer)
    try:
        yield Buffer(address, nbytes, _view(address, nbytes))
    finally:
        device.use()
        cu.cuMemFreeHost(address)


@contextmanager
def shared(device: Device, kind: SharedKind, nbytes: int) -> Iterator[Buffer]:
    """Memory that CPU and GPU both use by one address: managed, or plain malloc (HMM, ATS)."""
    with (_managed if kind == "managed" else _malloced)(device, nbytes) as buffer:
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
    """One page more than asked for, so that the buffer starts on a page: residence is kept a page at a time."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    block = libc.malloc(nbytes + _PAGE_NBYTES)
    if not block:
        raise MemoryError(f"malloc of {nbytes} bytes failed")
    address = (block + _PAGE_NBYTES - 1) & -_PAGE_NBYTES
    try:
        yield Buffer(address, nbytes, _view(address, nbytes))
    finally:
        libc.free(block)
