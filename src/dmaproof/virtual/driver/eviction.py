"""Managed memory beyond what a GPU has room for: pages that are there give way to those that come.

UVM evicts what was used longest ago (uvm_pmm_gpu.c). Which page that is nobody keeps here: they go by the order of
allocation, then by address, which is the same for programs that go through their memory in order.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dmaproof.virtual.driver.driver import Driver
from dmaproof.virtual.driver.errors import not_supported
from dmaproof.virtual.driver.gpus import Device
from dmaproof.virtual.driver.pages import CPU_BIT, PAGE, ManagedPages, Range, bit, runs


def resident_nbytes(driver: Driver, device: Device) -> int:
    """What ``device`` holds of managed memory."""
    return sum(int(_there(pages, device).sum()) for _, pages in _managed(driver)) * PAGE


def room_nbytes(device: Device) -> int:
    """What managed memory may take of ``device``'s at most: memory of cuMemAlloc and its kin never gives way."""
    return device.memory_nbytes - device.used_nbytes


def fitting(device: Device, wanted: Range) -> Iterator[Range]:
    """``wanted`` in parts of which each has room on ``device``."""
    most = room_nbytes(device) // PAGE
    if most < 1:
        raise not_supported(f"managed memory on GPU {device.ordinal}, which has no page left for it")
    for first in range(wanted.first, wanted.end, most):
        yield Range(first, min(first + most, wanted.end))


def evict(driver: Driver, device: Device, nbytes: int) -> list[tuple[int, int]]:
    """Have ``nbytes`` free on ``device``: pages go to the CPU. Returns address and size of each stretch that went."""
    if sum(pages.npages for _, pages in _managed(driver)) * PAGE + nbytes <= room_nbytes(device):
        return []  # all there is would fit: nobody needs to look where it is
    missing = -(-(nbytes + resident_nbytes(driver, device) - room_nbytes(device)) // PAGE)
    gone: list[tuple[int, int]] = []
    for va, pages in _managed(driver):
        for run in runs(Range(0, pages.npages), _there(pages, device)):
            if missing <= 0:
                return gone
            leaving = Range(run.first, min(run.end, run.first + missing))
            pages.move(leaving, CPU_BIT)
            gone.append((va + leaving.first * PAGE, (leaving.end - leaving.first) * PAGE))
            missing -= leaving.end - leaving.first
    return gone


def _there(pages: ManagedPages, device: Device) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.asarray((pages.where & np.uint64(bit(device.ordinal))) != 0)


def _managed(driver: Driver) -> Iterator[tuple[int, ManagedPages]]:
    return ((found.va, found.memory) for found in driver.space.all() if isinstance(found.memory, ManagedPages))
