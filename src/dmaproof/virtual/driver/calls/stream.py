"""Streams."""

from __future__ import annotations

from dmaproof.virtual.driver import capture
from dmaproof.virtual.driver.abi import call, put_int, put_u32, put_u64
from dmaproof.virtual.driver.capture import refuse_waiting
from dmaproof.virtual.driver.driver import LEGACY_STREAM, PER_THREAD_STREAM, driver
from dmaproof.virtual.driver.errors import CuResult, DriverError, require
from dmaproof.virtual.driver.gpus import Context
from dmaproof.virtual.driver.host_tasks import await_shared, wait_task
from dmaproof.virtual.driver.streams import Event, Stream

_NON_BLOCKING = 1
_EXTERNAL = 1  # CU_EVENT_WAIT_EXTERNAL (cuda.h)


@call("cuStreamCreate", "pI")
def cu_stream_create(target: int, flags: int) -> None:
    cu_stream_create_with_priority(target, flags, 0)


@call("cuStreamCreateWithPriority", "pIi")
def cu_stream_create_with_priority(target: int, flags: int, priority: int) -> None:
    if flags & ~_NON_BLOCKING:
        raise DriverError(CuResult.INVALID_VALUE)
    state = driver()
    stream = state.context().new_stream(not flags & _NON_BLOCKING, flags, min(max(priority, -5), 0))
    stream.handle = state.handles.add(stream)
    put_u64(target, stream.handle)


@call("cuStreamDestroy", "p")
def cu_stream_destroy(handle: int) -> None:
    """Work already queued is finished first, without the caller."""
    if handle in (0, LEGACY_STREAM, PER_THREAD_STREAM):
        raise DriverError(CuResult.INVALID_HANDLE)
    stream = driver().handles.get(handle, Stream)
    driver().handles.remove(handle)
    if stream.capture is not None:
        stream.capture.invalid = True
    if stream.idle and isinstance(stream.context, Context):
        stream.context.streams.remove(stream)


@call("cuStreamSynchronize", "p")
def cu_stream_synchronize(handle: int) -> None:
    stream = driver().stream(handle)
    refuse_waiting(driver().captures, [stream])
    driver().captures.refuse_implicit(stream)
    driver().synchronize(stream)


@call("cuStreamQuery", "p")
def cu_stream_query(handle: int) -> None:
    stream = driver().stream(handle)
    refuse_waiting(driver().captures, [stream])
    driver().captures.refuse_implicit(stream)
    if not stream.idle:
        raise DriverError(CuResult.NOT_READY)
    driver().clock.observed(stream.at_ns)


@call("cuStreamWaitEvent", "ppI")
def cu_stream_wait_event(handle: int, event: int, flags: int) -> None:
    stream, awaited = driver().stream(handle), driver().handles.get(event, Event)
    if flags:
        require(flags == _EXTERNAL and stream.capture is not None)
        assert isinstance(stream.context, Context)  # noqa: S101
        driver().submit(stream, wait_task(driver(), stream.context, event))
        return
    if stream.capture is not None or awaited.captured is not None:
        capture.wait(driver().captures, stream, awaited)
    elif awaited.shared is not None:
        driver().queue(stream, await_shared(awaited.shared))
    elif awaited.recorded is not None:  # an event that was never recorded holds nothing up
        driver().queue(stream, lambda ready_ns, _: ready_ns, (awaited.recorded,))


def _context(handle: int) -> Context:
    owner = driver().stream(handle).context
    assert isinstance(owner, Context)  # noqa: S101
    return owner


@call("cuStreamGetCtx", "pp")
def cu_stream_get_ctx(handle: int, target: int) -> None:
    put_u64(target, _context(handle).handle)


@call("cuStreamGetCtx", "ppp", since=12050)
def cu_stream_get_ctx_v2(handle: int, target: int, green: int) -> None:
    put_u64(target, _context(handle).handle)
    if green:
        put_u64(green, 0)


@call("cuStreamGetDevice", "pp")
def cu_stream_get_device(handle: int, target: int) -> None:
    put_int(target, _context(handle).device.ordinal)


@call("cuStreamGetFlags", "pp")
def cu_stream_get_flags(handle: int, target: int) -> None:
    put_u32(target, driver().stream(handle).flags)


@call("cuStreamGetPriority", "pp")
def cu_stream_get_priority(handle: int, target: int) -> None:
    put_int(target, driver().stream(handle).priority)


@call("cuStreamGetId", "pp")
def cu_stream_get_id(handle: int, target: int) -> None:
    put_u64(target, driver().stream(handle).number)
