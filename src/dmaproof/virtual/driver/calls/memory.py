"""Device and managed memory: allocating, freeing, asking about it."""

from __future__ import annotations

from dmaproof.virtual.driver.abi import call, put_u64
from dmaproof.virtual.driver.address_space import Allocation
from dmaproof.virtual.driver.chunks import DeviceMemory
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import CuResult, DriverError, not_supported, require
from dmaproof.virtual.driver.eviction import evict, resident_nbytes, room_nbytes
from dmaproof.virtual.driver.gpus import Device
from dmaproof.virtual.driver.pages import ManagedPages
from dmaproof.virtual.driver.release import release

_ATTACH_GLOBAL = 1
_PITCHED_UNITS, _TEXTURE_ALIGNMENT = (4, 8, 16), 512  # cuMemAllocPitch (cuda.h); CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT


def allocate(device: Device, nbytes: int) -> Allocation:
    """``nbytes`` of ``device``'s memory. Raises INVALID_VALUE for none, OUT_OF_MEMORY for too many."""
    state = driver()
    if not nbytes:
        raise DriverError(CuResult.INVALID_VALUE)
    if nbytes > device.memory_nbytes - device.used_nbytes:
        raise DriverError(CuResult.OUT_OF_MEMORY)
    va = state.space.device_address(nbytes)
    evict(state, device, nbytes)
    device.used_nbytes += nbytes
    return state.space.add(Allocation(va, nbytes, "device", device.ordinal, DeviceMemory(nbytes)))


@call("cuMemAlloc", "pz", since=3020)
def cu_mem_alloc(target: int, nbytes: int) -> None:
    context = driver().context()
    found = allocate(context.device, nbytes)
    found.context = context
    put_u64(target, found.va)


@call("cuMemAllocPitch", "ppzzI", since=3020)
def cu_mem_alloc_pitch(target: int, pitch: int, width_nbytes: int, height: int, unit_nbytes: int) -> None:
    require(pitch and width_nbytes and height and unit_nbytes in _PITCHED_UNITS)
    row_nbytes = -(-width_nbytes // _TEXTURE_ALIGNMENT) * _TEXTURE_ALIGNMENT
    cu_mem_alloc(target, row_nbytes * height)
    put_u64(pitch, row_nbytes)


@call("cuMemAllocManaged", "pzI")
def cu_mem_alloc_managed(target: int, nbytes: int, flags: int) -> None:
    if not nbytes:
        raise DriverError(CuResult.INVALID_VALUE)
    if flags != _ATTACH_GLOBAL:
        raise not_supported(f"managed memory with flags {flags:#x}: only CU_MEM_ATTACH_GLOBAL (1)")
    state, pages = driver(), ManagedPages(nbytes)
    context = state.context()
    found = Allocation(pages.cpu_address, nbytes, "managed", context.device.ordinal, pages, context=context)
    put_u64(target, state.space.add(found).va)


@call("cuMemFree", "p", since=3020)
def cu_mem_free(va: int) -> None:
    """Waits for the device, as the real one does: work in flight may use the memory; for all, where all may use it."""
    if not va:
        return
    state = driver()
    of_graph = state.graph_memory.get(va)
    if of_graph is not None:
        of_graph.take_back()
        state.synchronize_all()
        of_graph.end()
        return
    found = _freed(va)
    context = found.context or state.devices[found.gpu].context
    if found.kind != "device":
        state.synchronize_all()
    elif context is not None:
        state.synchronize_context(context)
    release(state, _freed(va))


def _freed(va: int) -> Allocation:
    """Pinned memory only of pools: that of cuMemHostAlloc has cuMemFreeHost."""
    found = driver().space.at(va, "device", "managed", "pinned")
    require(found.kind != "pinned" or found.by == "pool")
    return found


@call("cuMemGetInfo", "pp", since=3020)
def cu_mem_get_info(free: int, total: int) -> None:
    device = driver().context().device
    put_u64(free, room_nbytes(device) - resident_nbytes(driver(), device))
    put_u64(total, device.memory_nbytes)


@call("cuMemGetAddressRange", "ppQ", since=3020)
def cu_mem_get_address_range(base: int, nbytes: int, va: int) -> None:
    found = driver().space.find(va)
    if found is None:
        raise DriverError(CuResult.INVALID_VALUE)
    for target, value in ((base, found.va), (nbytes, found.nbytes)):
        if target:
            put_u64(target, value)
