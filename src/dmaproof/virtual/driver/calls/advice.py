"""Advice to UVM, prefetching, and what UVM was told about a range."""

from __future__ import annotations

import ctypes

import numpy as np

from dmaproof.virtual.driver.abi import call
from dmaproof.virtual.driver.calls.locations import residence
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import CuResult, DriverError, not_supported
from dmaproof.virtual.driver.gpus import Device
from dmaproof.virtual.driver.pages import CPU, CPU_BIT, NOT_SET, ManagedPages, Range, bit, numa_node
from dmaproof.virtual.driver.physical import DEVICE, HOST_NUMA, NO_LOCATION, ON_HOST

# CUmem_advise, CUmem_range_attribute (cuda.h)
_SET_READ_MOSTLY, _UNSET_READ_MOSTLY, _SET_PREFERRED, _UNSET_PREFERRED = 1, 2, 3, 4
_SET_ACCESSED_BY, _UNSET_ACCESSED_BY = 5, 6
_READ_MOSTLY, _PREFERRED, _ACCESSED_BY, _LAST_PREFETCH = 1, 2, 3, 4
_PREFERRED_TYPE, _PREFERRED_ID, _LAST_PREFETCH_TYPE, _LAST_PREFETCH_ID = 5, 6, 7, 8


def location_of(packed: int) -> int:
    """The location that a CUmemLocation names, as residence is kept."""
    return residence(packed & 0xFFFFFFFF, packed >> 32)


def device_at(location: int) -> Device | None:
    """The GPU at ``location``, None for the host and its NUMA nodes."""
    return driver().device(location) if location >= 0 else None


def managed(va: int, nbytes: int) -> tuple[ManagedPages, Range, int] | None:
    """The pages of a range, and where its allocation begins; None where CUDA did not hand it out."""
    found = driver().space.find(va)
    if found is None:
        return None
    if not isinstance(found.memory, ManagedPages) or not nbytes or va + nbytes > found.end:
        raise DriverError(CuResult.INVALID_VALUE)
    return found.memory, found.memory.pages(va - found.va, nbytes), found.va


@call("cuMemAdvise", "QziL", since=12020)
def cu_mem_advise(va: int, nbytes: int, advice: int, location: int) -> None:
    known = managed(va, nbytes)
    if known is None:
        raise not_supported("cuMemAdvise on memory that CUDA did not hand out")
    pages, touched, _ = known
    part = touched.slice
    if advice in (_SET_READ_MOSTLY, _UNSET_READ_MOSTLY):
        pages.read_mostly[part] = int(advice == _SET_READ_MOSTLY)
    elif advice in (_SET_PREFERRED, _UNSET_PREFERRED):
        pages.preferred[part] = location_of(location) if advice == _SET_PREFERRED else NOT_SET
    elif advice in (_SET_ACCESSED_BY, _UNSET_ACCESSED_BY):
        device = device_at(location_of(location))
        word = pages.accessed_by.dtype.type(CPU_BIT if device is None else bit(device.ordinal))
        pages.accessed_by[part] = pages.accessed_by[part] & ~word | (word if advice == _SET_ACCESSED_BY else 0)
    else:
        raise DriverError(CuResult.INVALID_VALUE)


@call("cuMemRangeGetAttribute", "pziQz")
def cu_mem_range_get_attribute(data: int, room: int, attribute: int, va: int, nbytes: int) -> None:
    if attribute == _ACCESSED_BY:
        _put_accessed_by(data, room, va, nbytes)
        return
    if not data or room != ctypes.sizeof(ctypes.c_int):
        raise DriverError(CuResult.INVALID_VALUE)
    ctypes.c_int.from_address(data).value = _answer(attribute, *_of_range(va, nbytes))


def _put_accessed_by(data: int, room: int, va: int, nbytes: int) -> None:
    """Who is advised for all of the range, as many as fit, and CU_DEVICE_INVALID behind them. The CPU, which needs no
    advice, is told all the same."""
    size = ctypes.sizeof(ctypes.c_int)
    if not data or not room or room % size:
        raise DriverError(CuResult.INVALID_VALUE)
    known = managed(va, nbytes)
    if known is None:
        raise DriverError(CuResult.INVALID_VALUE)
    pages, touched, _ = known
    for_all = int(np.bitwise_and.reduce(pages.accessed_by[touched.slice]))
    found = [device.ordinal for device in driver().devices if for_all & bit(device.ordinal)]
    found += [CPU] if for_all & CPU_BIT else []
    count = room // size
    answer = (ctypes.c_int * count)(*(found + [NOT_SET] * count)[:count])
    ctypes.memmove(data, answer, room)


def _of_range(va: int, nbytes: int) -> tuple[bool, int, int]:
    """Of all pages of the range alike: read-mostly, preferred location, location of the last prefetch."""
    known = managed(va, nbytes)
    if known is None:
        return False, NOT_SET, _prefetched(va, nbytes)
    pages, touched, _ = known
    preferred, last = set(pages.preferred[touched.slice].tolist()), set(pages.prefetched[touched.slice].tolist())
    return (
        bool(pages.read_mostly[touched.slice].all()),
        preferred.pop() if len(preferred) == 1 else NOT_SET,
        last.pop() if len(last) == 1 else NOT_SET,
    )


def _prefetched(va: int, nbytes: int) -> int:
    """Where the program's own memory was last sent, if all of the range was sent there at once."""
    if not driver().fabric.node.pageable:
        raise DriverError(CuResult.INVALID_VALUE)
    for start, end, where in reversed(driver().prefetched):
        if start < va + nbytes and va < end:
            return where if start <= va and va + nbytes <= end else NOT_SET
    return NOT_SET


def _answer(attribute: int, read_mostly: bool, preferred: int, last: int) -> int:
    if attribute == _READ_MOSTLY:
        return int(read_mostly)
    where = preferred if attribute in (_PREFERRED, _PREFERRED_TYPE, _PREFERRED_ID) else last
    node = numa_node(where)
    if attribute in (_PREFERRED, _LAST_PREFETCH):
        return where if node is None else NOT_SET
    if attribute in (_PREFERRED_TYPE, _LAST_PREFETCH_TYPE):
        return HOST_NUMA if node is not None else {NOT_SET: NO_LOCATION, CPU: ON_HOST}.get(where, DEVICE)
    if attribute in (_PREFERRED_ID, _LAST_PREFETCH_ID):
        return max(where, 0) if node is None else node
    raise DriverError(CuResult.INVALID_VALUE)
