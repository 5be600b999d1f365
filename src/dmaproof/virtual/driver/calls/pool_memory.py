"""Stream-ordered memory: allocating from pools, and giving back in stream order."""

from __future__ import annotations

from dmaproof.virtual.driver import shared_files
from dmaproof.virtual.driver.abi import call, put_u64
from dmaproof.virtual.driver.address_space import Allocation
from dmaproof.virtual.driver.calls.graph_memory import alloc_task, free_task, new_memory
from dmaproof.virtual.driver.calls.host_memory import PAGE, map_pinned
from dmaproof.virtual.driver.calls.locations import residence
from dmaproof.virtual.driver.calls.memory import allocate
from dmaproof.virtual.driver.calls.place_pools import current_of, of_gpu
from dmaproof.virtual.driver.calls.pool import pool_behind
from dmaproof.virtual.driver.capture import Capture
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
    put_u64(target, _address(current_of(of_gpu(_context(on).device.ordinal)), nbytes, on))


@call("cuMemAllocFromPoolAsync", "pzpp")
def cu_mem_alloc_from_pool_async(target: int, nbytes: int, pool: int, stream: int) -> None:
    put_u64(target, _address(pool, nbytes, driver().stream(stream)))


def _address(pool: int, nbytes: int, stream: Stream) -> int:
    """No bytes are no error, and nowhere (cuda-python, cuda_core/tests/test_device.py)."""
    if stream.capture is not None:
        stream.capture.check()
    if not nbytes:
        return 0
    if stream.capture is not None:
        return _captured(stream, stream.capture, pool_behind(pool), nbytes).va
    return _from(pool, nbytes, stream).va


def _from(handle: int, nbytes: int, stream: Stream) -> Allocation:
    """Memory of the pool. Nothing can be allocated from another process's."""
    pool = pool_behind(handle)
    require(not pool.imported)
    if not pool.fits(nbytes):
        raise DriverError(CuResult.OUT_OF_MEMORY)
    pool.take(nbytes)
    found = _fresh(pool, nbytes, _context(stream).device.ordinal)
    found.by, found.pool, found.backing = "pool", handle, pool
    found.access = None if pool.place.kind == MANAGED else pool.access
    return found


def _captured(stream: Stream, capture: Capture, pool: Pool, nbytes: int) -> Allocation:
    """The graph's memory, with the pool's properties."""
    memory = new_memory(capture.graph, pool.place, nbytes, pool.access)
    capture.take(stream, alloc_task(_context(stream), memory))
    return memory.found


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
    state, on = driver(), driver().stream(stream)
    if not va:
        return
    if on.capture is not None:
        on.capture.check()
        on.capture.take(on, free_task(_context(on), on.capture.graph, va))
        return
    of_graph = state.graph_memory.get(va)
    if of_graph is not None:
        of_graph.take_back()
        state.queue(on, of_graph.ending)
        return
    found = state.space.at(va, "device", "managed", "pinned")
    require(found.kind == "device" or found.by == "pool")

    def run(ready_ns: float, _queued_ns: float) -> float:
        release(state, found)
        return ready_ns

    state.queue(on, run)


def _context(stream: Stream) -> Context:
    assert isinstance(stream.context, Context)  # noqa: S101
    return stream.context
