"""Stream-ordered memory. A pool here is a name: memory comes from the device and goes back at once."""

from __future__ import annotations

from dataclasses import dataclass

from dmaproof.virtual.driver.abi import call, get_u32, get_u64, put_int, put_u64
from dmaproof.virtual.driver.calls.memory import allocate
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import not_supported
from dmaproof.virtual.driver.gpus import Context, Device
from dmaproof.virtual.driver.release import release
from dmaproof.virtual.driver.streams import Stream

# CUmemPool_attribute (cuda.h)
_FLAGS, _RELEASE_THRESHOLD = (1, 2, 3), 4
_RESERVED_NOW, _RESERVED_HIGH, _USED_NOW, _USED_HIGH = 5, 6, 7, 8


@dataclass(eq=False, slots=True)
class Pool:
    """A pool of ``device``'s memory and the attributes that were set on it."""

    device: Device
    values: dict[int, int]


def _default(device: Device) -> int:
    if not device.pool:
        device.pool = driver().handles.add(Pool(device, dict.fromkeys(_FLAGS, 1)))
    return device.pool


@call("cuDeviceGetDefaultMemPool", "pi", needs="init")
def cu_device_get_default_mem_pool(target: int, device: int) -> None:
    put_u64(target, _default(driver().device(device)))


@call("cuDeviceGetMemPool", "pi", needs="init")
def cu_device_get_mem_pool(target: int, device: int) -> None:
    put_u64(target, _default(driver().device(device)))


@call("cuMemPoolGetAttribute", "pip", needs="init")
def cu_mem_pool_get_attribute(handle: int, attribute: int, target: int) -> None:
    pool = driver().handles.get(handle, Pool)
    if attribute in _FLAGS:
        put_int(target, pool.values[attribute])
    elif attribute == _RELEASE_THRESHOLD:
        put_u64(target, pool.values.get(attribute, 0))
    elif attribute in (_RESERVED_NOW, _RESERVED_HIGH, _USED_NOW, _USED_HIGH):
        put_u64(target, sum(one.nbytes for one in driver().space.all() if one.pool == handle))
    else:
        raise not_supported(f"memory pool attribute {attribute}")


@call("cuMemPoolSetAttribute", "pip", needs="init")
def cu_mem_pool_set_attribute(handle: int, attribute: int, source: int) -> None:
    pool = driver().handles.get(handle, Pool)
    if attribute in _FLAGS:
        pool.values[attribute] = get_u32(source)
    elif attribute == _RELEASE_THRESHOLD:
        pool.values[attribute] = get_u64(source)
    else:
        raise not_supported(f"setting memory pool attribute {attribute}")


@call("cuMemPoolTrimTo", "pz", needs="init")
def cu_mem_pool_trim_to(handle: int, _nbytes: int) -> None:
    driver().handles.get(handle, Pool)


@call("cuMemAllocAsync", "pzp")
def cu_mem_alloc_async(target: int, nbytes: int, stream: int) -> None:
    device = _device(driver().stream(stream))
    put_u64(target, allocate(device, nbytes, _default(device)).va)


@call("cuMemAllocFromPoolAsync", "pzpp")
def cu_mem_alloc_from_pool_async(target: int, nbytes: int, pool: int, stream: int) -> None:
    driver().stream(stream)
    put_u64(target, allocate(driver().handles.get(pool, Pool).device, nbytes, pool).va)


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
