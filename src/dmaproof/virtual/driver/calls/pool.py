"""Stream-ordered memory, and the pools that it comes from."""

from __future__ import annotations

import ctypes
import os

from dmaproof.virtual.driver.abi import call, get_u32, get_u64, put_int, put_u64
from dmaproof.virtual.driver.address_space import Allocation
from dmaproof.virtual.driver.calls.locations import (
    Access,
    Location,
    check_handle_types,
    check_place,
    checked_access,
    number_of,
)
from dmaproof.virtual.driver.calls.memory import allocate
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import CuResult, DriverError, not_supported
from dmaproof.virtual.driver.gpus import Context, Device
from dmaproof.virtual.driver.physical import DEVICE, Wish
from dmaproof.virtual.driver.pools import Pool
from dmaproof.virtual.driver.release import release
from dmaproof.virtual.driver.rights import CPU, READ_WRITE
from dmaproof.virtual.driver.streams import Stream

# CUmemPool_attribute (cuda.h)
_FLAGS, _RELEASE_THRESHOLD = (1, 2, 3), 4
_RESERVED_NOW, _RESERVED_HIGH, _USED_NOW, _USED_HIGH = 5, 6, 7, 8
_PINNED = 1  # CUmemAllocationType


class PoolProps(ctypes.Structure):
    """CUmemPoolProps (cuda.h)."""

    _fields_ = (
        ("kind", ctypes.c_int),
        ("handle_types", ctypes.c_int),
        ("location", Location),
        ("win32", ctypes.c_void_p),
        ("most", ctypes.c_size_t),
        ("usage", ctypes.c_ushort),
        ("reserved", ctypes.c_ubyte * 54),
    )


def _invalid() -> DriverError:
    return DriverError(CuResult.INVALID_VALUE)


def pool_behind(handle: int) -> Pool:
    """The pool behind ``handle``. A handle that is none is INVALID_VALUE here."""
    try:
        return driver().handles.get(handle, Pool)
    except DriverError:
        raise _invalid() from None


def default_of(device: Device) -> int:
    """The handle of the pool that ``device`` comes with."""
    if not device.default_pool:
        device.default_pool = driver().handles.add(Pool(device, flags=dict.fromkeys(_FLAGS, 1)))
    return device.default_pool


def current_of(device: Device) -> int:
    """The handle of the pool that streams of ``device`` allocate from."""
    return device.pool or default_of(device)


def gpu_at(location: int, kind: int) -> Device:
    """The GPU whose pools of pinned memory are meant; other places have none here."""
    if not location or kind != _PINNED:
        raise _invalid() if not location else not_supported(f"memory pools of allocation type {kind}")
    place = Location.from_address(location)
    check_place(Wish(place.kind, place.number))
    if place.kind != DEVICE:
        raise DriverError(CuResult.NOT_SUPPORTED)
    return driver().device(place.number)


@call("cuMemPoolCreate", "pp", needs="init")
def cu_mem_pool_create(target: int, props: int) -> None:
    if not target or not props:
        raise _invalid()
    asked = PoolProps.from_address(props)
    device = gpu_at(props + PoolProps.location.offset, asked.kind)
    check_handle_types(Wish(DEVICE, device.ordinal, asked.handle_types))
    pool = Pool(device, most=asked.most, flags=dict.fromkeys(_FLAGS, 1), handle_types=asked.handle_types)
    put_u64(target, driver().handles.add(pool))


@call("cuMemPoolDestroy", "p", needs="init")
def cu_mem_pool_destroy(handle: int) -> None:
    """What was allocated from it stays until it is freed."""
    pool = pool_behind(handle)
    if handle == pool.device.default_pool:
        raise _invalid()
    if handle == pool.device.pool:
        pool.device.pool = 0
    pool.destroyed = True
    pool.trim(0)
    if pool.fd is not None:
        os.close(pool.fd)
        pool.fd = None
    driver().handles.remove(handle)


@call("cuMemPoolGetAttribute", "pip", needs="init")
def cu_mem_pool_get_attribute(handle: int, attribute: int, target: int) -> None:
    pool = pool_behind(handle)
    wide = {
        _RELEASE_THRESHOLD: pool.threshold,
        _RESERVED_NOW: pool.reserved,
        _RESERVED_HIGH: pool.reserved_high,
        _USED_NOW: pool.used,
        _USED_HIGH: pool.used_high,
    }
    if attribute in pool.flags:
        put_int(target, pool.flags[attribute])
    elif attribute in wide:
        put_u64(target, wide[attribute])
    else:
        raise not_supported(f"memory pool attribute {attribute}")


@call("cuMemPoolSetAttribute", "pip", needs="init")
def cu_mem_pool_set_attribute(handle: int, attribute: int, source: int) -> None:
    """A high mark can be set to zero only: it begins anew."""
    pool = pool_behind(handle)
    if attribute in _FLAGS:
        pool.flags[attribute] = get_u32(source)
    elif attribute == _RELEASE_THRESHOLD:
        pool.threshold = get_u64(source)
    elif attribute in (_RESERVED_HIGH, _USED_HIGH) and get_u64(source) == 0:
        if attribute == _RESERVED_HIGH:
            pool.reserved_high = pool.reserved
        else:
            pool.used_high = pool.used
    else:
        raise _invalid()


@call("cuMemPoolTrimTo", "pz", needs="init")
def cu_mem_pool_trim_to(handle: int, nbytes: int) -> None:
    pool_behind(handle).trim(nbytes)


@call("cuMemPoolSetAccess", "ppz", needs="init")
def cu_mem_pool_set_access(handle: int, descriptors: int, count: int) -> None:
    """For all memory of the pool, also that allocated before. The GPU that has it always may use it."""
    pool = pool_behind(handle)
    if not descriptors or not count:
        raise _invalid()
    checked = [checked_access(wish, pool.device) for wish in (Access * count).from_address(descriptors)]
    if any(number == pool.device.ordinal and flags != READ_WRITE for number, flags in checked):
        raise _invalid()
    pool.access.update(checked)


@call("cuMemPoolGetAccess", "ppp", needs="init")
def cu_mem_pool_get_access(target: int, handle: int, location: int) -> None:
    pool = pool_behind(handle)
    if not location:
        raise _invalid()
    number = number_of(Location.from_address(location))
    put_int(target, 0 if number == CPU else pool.access.get(number, 0))


@call("cuMemAllocAsync", "pzp")
def cu_mem_alloc_async(target: int, nbytes: int, stream: int) -> None:
    put_u64(target, _from(current_of(_device(driver().stream(stream))), nbytes).va)


@call("cuMemAllocFromPoolAsync", "pzpp")
def cu_mem_alloc_from_pool_async(target: int, nbytes: int, pool: int, stream: int) -> None:
    driver().stream(stream)
    put_u64(target, _from(pool, nbytes).va)


def _from(handle: int, nbytes: int) -> Allocation:
    pool = pool_behind(handle)
    if pool.imported:  # nothing can be allocated from another process's pool
        raise _invalid()
    if not pool.fits(nbytes):
        raise DriverError(CuResult.OUT_OF_MEMORY)
    free = pool.device.memory_nbytes - pool.device.used_nbytes + pool.held
    if nbytes > free:
        raise DriverError(CuResult.OUT_OF_MEMORY)
    if nbytes:
        pool.take(nbytes)
    found = allocate(pool.device, nbytes, handle)
    found.by, found.access, found.backing = "pool", pool.access, pool
    return found


@call("cuMemFreeAsync", "Qp")
def cu_mem_free_async(va: int, stream: int) -> None:
    state = driver()
    found = state.space.at(va, "device")

    def run(ready_ns: float, _queued_ns: float) -> float:
        release(state, found)
        return ready_ns

    state.queue(state.stream(stream), run)


def _device(stream: Stream) -> Device:
    assert isinstance(stream.context, Context)  # noqa: S101
    return stream.context.device
