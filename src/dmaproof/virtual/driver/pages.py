"""The pages of managed memory: two mappings of one file, where each page is, and what UVM was advised about it.

The program sees one mapping, whose pages are inaccessible while a GPU holds them: a CPU touch is a real page fault,
served by the stub (libcuda.c). The driver moves bytes through the other mapping.
"""

from __future__ import annotations

import ctypes
import functools
import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dmaproof.virtual.driver.errors import CuResult, DriverError
from dmaproof.virtual.driver.host import READ_WRITE, MappedMemory, keep_from_children, map_file, unmap

PAGE = 64 << 10
"""Residence is kept in units of 64 KiB, the large page that nvidia-uvm prefers on a fault."""
CPU_BIT = 1
NOT_SET, CPU = -2, -1
"""Locations besides GPU ordinals: CU_DEVICE_INVALID and CU_DEVICE_CPU (cuda.h)."""
_FIRST_NUMA = -16
_MOST_GPUS = 63
_ALL_BITS = (1 << 64) - 1


@functools.cache
def _stub() -> ctypes.CDLL:
    """The library that this driver runs under, opened by its soname."""
    stub = ctypes.CDLL("libcuda.so.1")
    stub.dmaproof_region_add.argtypes = [*[ctypes.c_uint64] * 3, ctypes.c_void_p, ctypes.c_void_p]
    stub.dmaproof_region_remove.argtypes = [ctypes.c_int]
    stub.dmaproof_region_remove.restype = None
    stub.dmaproof_region_move.argtypes = [ctypes.c_int, *[ctypes.c_uint64] * 4]
    stub.dmaproof_region_move.restype = None
    stub.dmaproof_region_faults.argtypes = [ctypes.c_int]
    stub.dmaproof_region_faults.restype = ctypes.c_uint64
    return stub


def bit(gpu: int) -> int:
    """The residence bit of GPU number ``gpu``."""
    if gpu >= _MOST_GPUS:
        raise DriverError(CuResult.NOT_SUPPORTED, f"managed memory on GPU {gpu}: at most {_MOST_GPUS} GPUs a node")
    return 1 << (gpu + 1)


def numa(node: int) -> int:
    """The location that is NUMA node ``node`` of the host."""
    return _FIRST_NUMA - node


def numa_node(location: int) -> int | None:
    """The NUMA node that a location is, None for the others."""
    return _FIRST_NUMA - location if location <= _FIRST_NUMA else None


@dataclass(frozen=True, slots=True)
class Range:
    """Pages ``first`` up to ``end``."""

    first: int
    end: int

    @property
    def slice(self) -> slice:
        return slice(self.first, self.end)


class ManagedPages(MappedMemory):
    """``nbytes`` of managed memory at ``cpu_address``. As a Memory it reads and writes past the CPU's protection.

    ``where`` is a word of residence bits a page; ``preferred`` and ``prefetched`` are locations a page, ``accessed_by``
    GPU bits a page as advised, ``mapped`` those that reach the page where it is; ``read_mostly`` a flag a page.
    """

    def __init__(self, nbytes: int) -> None:
        self.npages = -(-nbytes // PAGE)
        self._length = self.npages * PAGE
        fd = os.memfd_create("dmaproof-managed", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, self._length)
            self.cpu_address = map_file(fd, self._length, READ_WRITE)
            super().__init__(map_file(fd, self._length, READ_WRITE), self._length)
            for address in (self.cpu_address, self.address):  # as nvidia-uvm's mappings, VM_DONTCOPY (uvm.c, uvm_mmap)
                keep_from_children(address, self._length)
        finally:
            os.close(fd)
        self.where: npt.NDArray[np.uint64] = np.zeros(self.npages, np.uint64)
        self.read_mostly = np.zeros(self.npages, np.uint8)
        self.accessed_by: npt.NDArray[np.uint64] = np.zeros(self.npages, np.uint64)
        self.mapped: npt.NDArray[np.uint64] = np.zeros(self.npages, np.uint64)
        self.preferred = np.full(self.npages, NOT_SET, np.int32)
        self.prefetched = np.full(self.npages, NOT_SET, np.int32)
        self._number = _stub().dmaproof_region_add(
            self.cpu_address, self.npages, PAGE, self.where.ctypes.data, self.read_mostly.ctypes.data
        )
        if self._number < 0:
            raise DriverError(CuResult.OUT_OF_MEMORY, "no room for another managed allocation")

    def close(self) -> None:
        _stub().dmaproof_region_remove(self._number)
        unmap(self.cpu_address, self._length)
        unmap(self.address, self._length)

    @property
    def cpu_faults(self) -> int:
        """How many page faults the CPU has taken here."""
        return int(_stub().dmaproof_region_faults(self._number))

    def pages(self, offset: int, nbytes: int) -> Range:
        return Range(offset // PAGE, -(-(offset + nbytes) // PAGE))

    def move(self, pages: Range, set_bits: int, keep: bool = False) -> None:
        """Make ``set_bits`` where the pages are; with ``keep``, besides where they were."""
        count = pages.end - pages.first
        _stub().dmaproof_region_move(self._number, pages.first, count, _ALL_BITS if keep else 0, set_bits)


def runs(pages: Range, chosen: npt.NDArray[np.bool_]) -> list[Range]:
    """The stretches of ``pages`` where ``chosen`` (a flag a page of the range) is set."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], chosen, [False])).astype(np.int8)))
    return [Range(pages.first + int(a), pages.first + int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
