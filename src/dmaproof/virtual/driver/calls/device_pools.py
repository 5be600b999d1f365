"""Which pool of stream-ordered memory a GPU comes with, and which one its streams allocate from."""

from __future__ import annotations

from dmaproof.virtual.driver.abi import call, put_u64
from dmaproof.virtual.driver.calls.pool import current_of, default_of, gpu_at, pool_behind
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import CuResult, DriverError


@call("cuDeviceGetDefaultMemPool", "pi", needs="init")
def cu_device_get_default_mem_pool(target: int, device: int) -> None:
    put_u64(target, default_of(driver().device(device)))


@call("cuDeviceGetMemPool", "pi", needs="init")
def cu_device_get_mem_pool(target: int, device: int) -> None:
    put_u64(target, current_of(driver().device(device)))


@call("cuDeviceSetMemPool", "ip", needs="init")
def cu_device_set_mem_pool(device: int, handle: int) -> None:
    one = driver().device(device)
    if pool_behind(handle).device is not one or pool_behind(handle).imported:
        raise DriverError(CuResult.INVALID_VALUE)
    one.pool = handle


@call("cuMemGetDefaultMemPool", "ppi", needs="init")
def cu_mem_get_default_mem_pool(target: int, location: int, kind: int) -> None:
    put_u64(target, default_of(gpu_at(location, kind)))


@call("cuMemGetMemPool", "ppi", needs="init")
def cu_mem_get_mem_pool(target: int, location: int, kind: int) -> None:
    put_u64(target, current_of(gpu_at(location, kind)))


@call("cuMemSetMemPool", "pip", needs="init")
def cu_mem_set_mem_pool(location: int, kind: int, handle: int) -> None:
    cu_device_set_mem_pool(gpu_at(location, kind).ordinal, handle)
