"""Which pool of stream-ordered memory a place comes with, and which one is current there."""

from __future__ import annotations

from dmaproof.virtual.driver.abi import call, put_u64
from dmaproof.virtual.driver.calls.pool import checked_place, new_pool, pool_behind
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import require
from dmaproof.virtual.driver.physical import DEVICE
from dmaproof.virtual.driver.pools import PINNED, Place


def default_of(place: Place) -> int:
    """The handle of the pool that ``place`` comes with."""
    state = driver()
    if place not in state.pools.default:
        state.pools.default[place] = state.handles.add(new_pool(place))
    return state.pools.default[place]


def current_of(place: Place) -> int:
    """The handle of the pool that is current at ``place``."""
    return driver().pools.chosen.get(place) or default_of(place)


def of_gpu(ordinal: int) -> Place:
    """Where streams of the GPU allocate from. INVALID_DEVICE."""
    return Place(PINNED, DEVICE, driver().device(ordinal).ordinal)


def _choose(place: Place, handle: int) -> None:
    pool = pool_behind(handle)
    require(pool.place == place and not pool.imported)
    driver().pools.chosen[place] = handle


@call("cuDeviceGetDefaultMemPool", "pi", needs="init")
def cu_device_get_default_mem_pool(target: int, device: int) -> None:
    put_u64(target, default_of(of_gpu(device)))


@call("cuDeviceGetMemPool", "pi", needs="init")
def cu_device_get_mem_pool(target: int, device: int) -> None:
    put_u64(target, current_of(of_gpu(device)))


@call("cuDeviceSetMemPool", "ip", needs="init")
def cu_device_set_mem_pool(device: int, handle: int) -> None:
    _choose(of_gpu(device), handle)


@call("cuMemGetDefaultMemPool", "ppi", needs="init")
def cu_mem_get_default_mem_pool(target: int, location: int, kind: int) -> None:
    put_u64(target, default_of(checked_place(location, kind)))


@call("cuMemGetMemPool", "ppi", needs="init")
def cu_mem_get_mem_pool(target: int, location: int, kind: int) -> None:
    put_u64(target, current_of(checked_place(location, kind)))


@call("cuMemSetMemPool", "pip", needs="init")
def cu_mem_set_mem_pool(location: int, kind: int, handle: int) -> None:
    _choose(checked_place(location, kind), handle)
