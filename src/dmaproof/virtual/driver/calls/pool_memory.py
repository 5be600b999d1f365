"""Stream-ordered memory: allocating from pools, and giving back in stream order."""

from __future__ import annotations

from dmaproof.virtual.driver import shared_files
from dmaproof.virtual.driver.abi import call, put_u64
from dmaproof.virtual.driver.address_space import Allocation
from dmaproof.virtual.driver.calls.host_memory import PAGE, map_pinned
from dmaproof.virtual.driver.calls.locations import residence
from dmaproof.virtual.driver.calls.memory import allocate
from dmaproof.virtual.driver.calls.place_pools import current_of, of_gpu
from dmaproof.virtual.driver.calls.pool import pool_behind
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import CuResult, DriverError, require
from dmaproof.virtual.driver.gpus import Context
from dmaproof.virtual.driver.host import READ_WRITE, MappedMemory, map_file
from dmaproof.virtual.driver.pages import NOT_SET, ManagedPages
from dmaproof.virtual.driver.physical import NO_LOCATION
from dmaproof.virtual.driver.pool_files import label_of
from dmaproof.virtual.driver.pools import MANAGED, Pool
from dmaproof.virtual.driver.release import release
from dmaproof.virtual.driver.streams import Stream


@call("cuMemAllocAsync", "pzp")
def cu_mem_alloc_async(target: int, nbytes: int, stream: int) -> None:
    on = driver().stream(stream)
    put_u64(target, _from(current_of(of_gpu(_ordinal(on))), nbytes, on).va)


@call("cuMemAllocFromPoolAsync", "pzpp")
def cu_mem_alloc_from_pool_async(target: int, nbytes: int, pool: int, stream: int) -> None:
    put_u64(target, _from(pool, nbytes, driver().stream(stream)).va)


def _from(handle: int, nbytes: int, stream: Stream) -> Allocation:
    """Memory of the pool. Nothing can be allocated from another process's."""
    pool = pool_behind(handle)
    require(nbytes and not pool.imported)
    if not pool.fits(nbytes):
        raise DriverError(CuResult.OUT_OF_MEMORY)
    pool.take(nbytes)
    found = _fresh(pool, nbytes, _ordinal(stream))
    found.by, found.pool, found.backing = "pool", handle, pool
    found.access = None if pool.place.kind == MANAGED else pool.access
    return found


def _fresh(pool: Pool, nbytes: int, near: int) -> Allocation:
    """``near``: the GPU that asked."""
    if pool.device is not None:
        return allocate(pool.device, nbytes)
    if pool.place.kind == MANAGED:
        pages, location = ManagedPages(nbytes), pool.place.location
        pages.preferred[:] = NOT_SET if location == NO_LOCATION else residence(location, pool.place.number)
        return driver().space.add(Allocation(pages.cpu_address, nbytes, "managed", near, pages))
    return _pinned(pool, nbytes, near)


def _pinned(pool: Pool, nbytes: int, near: int) -> Allocation:
    """Where it may be exported, a file has it from the start: the program sees it by one mapping and no other."""
    length = -(-nbytes // PAGE) * PAGE
    fd = shared_files.create(label_of(pool, length)) if pool.handle_types else None
    memory = map_pinned(length) if fd is None else MappedMemory(map_file(fd, length, READ_WRITE), length)
    return driver().space.add(Allocation(memory.address, nbytes, "pinned", near, memory, exported=fd))


@call("cuMemFreeAsync", "Qp")
def cu_mem_free_async(va: int, stream: int) -> None:
    state = driver()
    found = state.space.at(va, "device", "managed", "pinned")
    require(found.kind == "device" or found.by == "pool")

    def run(ready_ns: float, _queued_ns: float) -> float:
        release(state, found)
        return ready_ns

    state.queue(state.stream(stream), run)


def _ordinal(stream: Stream) -> int:
    assert isinstance(stream.context, Context)  # noqa: S101
    return stream.context.device.ordinal
