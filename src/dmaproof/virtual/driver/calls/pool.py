"""Pools of stream-ordered memory: of GPUs, of the host, and of managed memory."""

from __future__ import annotations

import ctypes
import os

from dmaproof.virtual.driver.abi import call, get_u32, get_u64, put_int, put_u64
from dmaproof.virtual.driver.calls.locations import (
    Access,
    Location,
    check_exists,
    check_handle_types,
    checked_access,
    number_of,
)
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import CuResult, DriverError, not_supported, require
from dmaproof.virtual.driver.physical import DEVICE, NO_LOCATION, ON_HOST, Wish
from dmaproof.virtual.driver.pools import MANAGED, PINNED, Place, Pool
from dmaproof.virtual.driver.rights import NONE, READ_WRITE

# CUmemPool_attribute (cuda.h)
_FLAGS, _RELEASE_THRESHOLD = (1, 2, 3), 4
_RESERVED_NOW, _RESERVED_HIGH, _USED_NOW, _USED_HIGH = 5, 6, 7, 8
_KIND, _EXPORT, _LOCATION_ID, _LOCATION_TYPE, _MOST, _DECOMPRESS = 9, 10, 11, 12, 13, 14


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


def pool_behind(handle: int) -> Pool:
    """The pool behind ``handle``. A handle that is none is INVALID_VALUE here."""
    return driver().handles.get(handle, Pool, CuResult.INVALID_VALUE)


def checked_place(location: int, kind: int) -> Place:
    """Where pools of that kind of memory can be. INVALID_VALUE, INVALID_DEVICE."""
    require(location and kind in (PINNED, MANAGED))
    asked = Location.from_address(location)
    if kind == MANAGED and asked.kind == NO_LOCATION:
        return Place(MANAGED, NO_LOCATION)
    check_exists(asked.kind, asked.number)
    return Place(kind, asked.kind, 0 if asked.kind == ON_HOST else asked.number)


def new_pool(place: Place, most: int = 0, handle_types: int = 0, fd: int | None = None) -> Pool:
    """``fd``: the file of another process's pool."""
    device = driver().device(place.number) if place.kind == PINNED and place.location == DEVICE else None
    flags = dict.fromkeys(_FLAGS, 1)
    return Pool(place, device, most, flags=flags, handle_types=handle_types, fd=fd, imported=fd is not None)


def _check_export(place: Place, handle_types: int) -> None:
    if not handle_types:
        return
    require(place.location != ON_HOST)  # cuMemPoolCreate
    if place.kind == MANAGED:
        raise not_supported("pools of managed memory that can be exported")
    check_handle_types(Wish(place.location, place.number, handle_types))


@call("cuMemPoolCreate", "pp", needs="init")
def cu_mem_pool_create(target: int, props: int) -> None:
    require(target and props)
    asked = PoolProps.from_address(props)
    place = checked_place(props + PoolProps.location.offset, asked.kind)
    _check_export(place, asked.handle_types)
    put_u64(target, driver().handles.add(new_pool(place, asked.most, asked.handle_types)))


@call("cuMemPoolDestroy", "p", needs="init")
def cu_mem_pool_destroy(handle: int) -> None:
    """What was allocated from it stays until it is freed."""
    pool, pools = pool_behind(handle), driver().pools
    require(handle not in pools.default.values())
    pools.forget(handle)
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
        _MOST: pool.most,
    }
    place = {_KIND: pool.place.kind, _LOCATION_TYPE: pool.place.location, _LOCATION_ID: pool.place.number}
    narrow = {**pool.flags, **place, _EXPORT: pool.handle_types, _DECOMPRESS: 0}
    if attribute in narrow:
        put_int(target, narrow[attribute])
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
        raise DriverError(CuResult.INVALID_VALUE)


@call("cuMemPoolTrimTo", "pz", needs="init")
def cu_mem_pool_trim_to(handle: int, nbytes: int) -> None:
    pool_behind(handle).trim(nbytes)


@call("cuMemPoolSetAccess", "ppz", needs="init")
def cu_mem_pool_set_access(handle: int, descriptors: int, count: int) -> None:
    """For all memory of the pool, also that allocated before. Who has it always may use it."""
    pool = pool_behind(handle)
    require(descriptors and count and pool.place.kind != MANAGED)  # managed memory is everybody's
    checked = [checked_access(wish, pool.device) for wish in (Access * count).from_address(descriptors)]
    require(all(flags == READ_WRITE for number, flags in checked if number == pool.home))
    pool.access.update(checked)


@call("cuMemPoolGetAccess", "ppp", needs="init")
def cu_mem_pool_get_access(target: int, handle: int, location: int) -> None:
    pool = pool_behind(handle)
    require(location)
    number = number_of(Location.from_address(location))
    put_int(target, READ_WRITE if pool.place.kind == MANAGED else pool.access.get(number, NONE))
