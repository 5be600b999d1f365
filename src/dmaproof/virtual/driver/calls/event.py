"""Events, on the modelled clock."""

from __future__ import annotations

import os

from dmaproof.virtual.driver import capture
from dmaproof.virtual.driver.abi import call, put_float, put_u64
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import CuResult, DriverError, require
from dmaproof.virtual.driver.gpus import Context
from dmaproof.virtual.driver.host_tasks import marking, record_task
from dmaproof.virtual.driver.ipc import new_event
from dmaproof.virtual.driver.streams import Event

_BLOCKING_SYNC, _DISABLE_TIMING, _INTERPROCESS = 1, 2, 4
_EXTERNAL = 1  # CU_EVENT_RECORD_EXTERNAL (cuda.h)


@call("cuEventCreate", "pI")
def cu_event_create(target: int, flags: int) -> None:
    between_processes = bool(flags & _INTERPROCESS)
    if flags & ~(_BLOCKING_SYNC | _DISABLE_TIMING | _INTERPROCESS) or (
        between_processes and not flags & _DISABLE_TIMING
    ):
        raise DriverError(CuResult.INVALID_VALUE)
    context = driver().context()
    shared = new_event(context.device.bdf) if between_processes else None
    put_u64(target, driver().handles.add(Event(context, flags, shared=shared)))


@call("cuEventDestroy", "p")
def cu_event_destroy(handle: int) -> None:
    event = driver().handles.get(handle, Event)
    if event.shared is not None:
        os.close(event.shared.fd)
    driver().handles.remove(handle)


@call("cuEventRecord", "pp")
def cu_event_record(handle: int, stream: int) -> None:
    event, on = driver().handles.get(handle, Event), driver().stream(stream)
    if event.context is not on.context:
        raise DriverError(CuResult.INVALID_HANDLE)
    if on.capture is not None:
        capture.record(event, on)
    else:
        event.recorded, event.captured = driver().queue(on, marking(event)), None


@call("cuEventRecordWithFlags", "ppI")
def cu_event_record_with_flags(handle: int, stream: int, flags: int) -> None:
    require(not flags & ~_EXTERNAL)
    if not flags:
        cu_event_record(handle, stream)
        return
    on = driver().stream(stream)
    require(on.capture is not None)
    assert isinstance(on.context, Context)  # noqa: S101
    driver().submit(on, record_task(driver(), on.context, handle))


def _event(handle: int) -> Event:
    event = driver().handles.get(handle, Event)
    assert isinstance(event.context, Context)  # noqa: S101
    event.context.check()
    capture.refuse_captured(event)
    return event


@call("cuEventSynchronize", "p")
def cu_event_synchronize(handle: int) -> None:
    event = _event(handle)
    recorded, shared = event.recorded, event.shared
    if shared is not None and isinstance(event.context, Context):
        number = shared.recorded
        driver().wait(event.context, lambda: shared.done(number))
    if recorded is not None and isinstance(event.context, Context):
        driver().wait(event.context, lambda: recorded.done)
        driver().clock.observed(recorded.end_ns)


@call("cuEventQuery", "p")
def cu_event_query(handle: int) -> None:
    event = _event(handle)
    recorded, shared = event.recorded, event.shared
    if shared is not None and not shared.done(shared.recorded):
        raise DriverError(CuResult.NOT_READY)
    if recorded is not None:
        if not recorded.done:
            raise DriverError(CuResult.NOT_READY)
        driver().clock.observed(recorded.end_ns)


@call("cuEventElapsedTime", "ppp")
def cu_event_elapsed_time(target: int, start: int, end: int) -> None:
    first, last = _event(start), _event(end)
    if not (first.timed and last.timed) or first.recorded is None or last.recorded is None:
        raise DriverError(CuResult.INVALID_HANDLE)
    if not (first.recorded.done and last.recorded.done):
        raise DriverError(CuResult.NOT_READY)
    put_float(target, (last.recorded.end_ns - first.recorded.end_ns) / 1e6)
