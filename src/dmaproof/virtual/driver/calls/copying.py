"""Copies. The synchronous ones run on the legacy default stream and wait for it."""

from __future__ import annotations

from dmaproof.virtual.driver.abi import call, get_u32, get_u64
from dmaproof.virtual.driver.boxes import Box
from dmaproof.virtual.driver.copies import queue_copy
from dmaproof.virtual.driver.driver import LEGACY_STREAM, driver
from dmaproof.virtual.driver.errors import CuResult, DriverError
from dmaproof.virtual.driver.gpus import Context

_ATTRIBUTES_NBYTES, _DURING_API_CALL = 24, 2  # CUmemcpyAttributes, CUmemcpySrcAccessOrder (cuda.h)


def _copy_and_wait(target: int, source: int, nbytes: int) -> None:
    state = driver()
    stream = state.stream(0)
    queue_copy(state, stream, target, source, Box(nbytes))
    state.synchronize(stream)


@call("cuMemcpy", "QQz")
def cu_memcpy(target: int, source: int, nbytes: int) -> None:
    _copy_and_wait(target, source, nbytes)


@call("cuMemcpyHtoD", "QQz", since=3020)
def cu_memcpy_htod(target: int, source: int, nbytes: int) -> None:
    _copy_and_wait(known(target), source, nbytes)


@call("cuMemcpyDtoH", "QQz", since=3020)
def cu_memcpy_dtoh(target: int, source: int, nbytes: int) -> None:
    _copy_and_wait(target, known(source), nbytes)


@call("cuMemcpyDtoD", "QQz", since=3020)
def cu_memcpy_dtod(target: int, source: int, nbytes: int) -> None:
    _copy_and_wait(known(target), known(source), nbytes)


@call("cuMemcpyAsync", "QQzp")
def cu_memcpy_async(target: int, source: int, nbytes: int, stream: int) -> None:
    queue_copy(driver(), driver().stream(stream), target, source, Box(nbytes))


@call("cuMemcpyHtoDAsync", "QQzp", since=3020)
def cu_memcpy_htod_async(target: int, source: int, nbytes: int, stream: int) -> None:
    queue_copy(driver(), driver().stream(stream), known(target), source, Box(nbytes))


@call("cuMemcpyDtoHAsync", "QQzp", since=3020)
def cu_memcpy_dtoh_async(target: int, source: int, nbytes: int, stream: int) -> None:
    queue_copy(driver(), driver().stream(stream), target, known(source), Box(nbytes))


@call("cuMemcpyDtoDAsync", "QQzp", since=3020)
def cu_memcpy_dtod_async(target: int, source: int, nbytes: int, stream: int) -> None:
    queue_copy(driver(), driver().stream(stream), known(target), known(source), Box(nbytes))


@call("cuMemcpyPeer", "QpQpz")
def cu_memcpy_peer(target: int, target_context: int, source: int, source_context: int, nbytes: int) -> None:
    on_gpu_of(target_context, target)
    on_gpu_of(source_context, source)
    _copy_and_wait(target, source, nbytes)


@call("cuMemcpyPeerAsync", "QpQpzp")
def cu_memcpy_peer_async(
    target: int, target_context: int, source: int, source_context: int, nbytes: int, stream: int
) -> None:
    on_gpu_of(target_context, target)
    on_gpu_of(source_context, source)
    queue_copy(driver(), driver().stream(stream), target, source, Box(nbytes))


@call("cuMemcpyBatchAsync", "pppzppzp", since=13000)
def cu_memcpy_batch_async_v2(  # noqa: PLR0913, RUF100 - as the API has it
    targets: int, sources: int, sizes: int, count: int, attributes: int, firsts: int, nattributes: int, stream: int
) -> None:
    """One copy after the other, which every order that attributes may ask for allows; hints change nothing."""
    on = driver().stream(stream)
    if stream in (0, LEGACY_STREAM) or not count or not attributes or not 1 <= nattributes <= count:
        raise DriverError(CuResult.INVALID_VALUE)
    starts = [get_u64(firsts + 8 * at) for at in range(nattributes)]
    if starts[0] or sorted(set(starts)) != starts or starts[-1] >= count:
        raise DriverError(CuResult.INVALID_VALUE)
    for at in range(count):
        target, source, nbytes = (get_u64(words + 8 * at) for words in (targets, sources, sizes))
        queue_copy(driver(), on, target, source, Box(nbytes))
    if any(get_u32(attributes + _ATTRIBUTES_NBYTES * at) == _DURING_API_CALL for at in range(nattributes)):
        driver().synchronize(on)


def known(va: int) -> int:
    """``va`` where CUDA knows it as a device address: memory of its own, or host memory mapped for devices."""
    if driver().space.find(va) is None:
        raise DriverError(CuResult.INVALID_VALUE)
    return va


def on_gpu_of(context: int, va: int) -> None:
    """``va`` must be memory of the context's device (or one that all devices share)."""
    device = driver().handles.get(context, Context).device
    found = driver().space.find(va)
    if found is None or (found.kind == "device" and found.gpu != device.ordinal):
        raise DriverError(CuResult.INVALID_VALUE)
