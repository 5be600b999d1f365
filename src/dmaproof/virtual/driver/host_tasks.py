"""Work of streams and graphs that no GPU does: events recorded and waited for, the program's own functions."""

from __future__ import annotations

import ctypes
from collections.abc import Generator

from dmaproof.virtual.driver.driver import Driver
from dmaproof.virtual.driver.errors import CuResult, require
from dmaproof.virtual.driver.gpus import Context
from dmaproof.virtual.driver.graphs import NodeType, Task
from dmaproof.virtual.driver.ipc import SharedEvent
from dmaproof.virtual.driver.streams import Event, Op, Run

HostFunction = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def marking(event: Event) -> Run:
    """The moment that the event stands for, which other processes hear of where they can."""
    shared = event.shared
    number = shared.record() if shared is not None else 0

    def run(ready_ns: float, _: float) -> float:
        if shared is not None:
            shared.finish(number)
        return ready_ns

    return run


def await_shared(event: SharedEvent) -> Run:
    """Until the work of the latest record so far is done, in whichever process that is."""
    number = event.recorded

    def run(ready_ns: float, _: float) -> Generator[None, None, float]:
        while not event.done(number):
            yield
        return ready_ns

    return run


def host_task(driver: Driver, context: Context, function: int, data: int, parameters: object = None) -> Task:
    """A call of the C function at address ``function``. INVALID_VALUE."""
    require(function)
    entry = HostFunction(function)
    return Task(NodeType.HOST, context, driver.callbacks.running(lambda: entry(data)), parameters)


def record_task(driver: Driver, context: Context, handle: int) -> Task:
    """The event is recorded when a launch comes to the node. INVALID_VALUE."""
    event = driver.handles.get(handle, Event, CuResult.INVALID_VALUE)

    def run(ready_ns: float, queued_ns: float) -> float:
        mark = marking(event)
        mark(ready_ns, queued_ns)
        event.recorded, event.captured = Op(mark, queued_ns, end_ns=ready_ns, done=True), None
        return ready_ns

    return Task(NodeType.EVENT_RECORD, context, run, handle)


def wait_task(driver: Driver, context: Context, handle: int) -> Task:
    """For the latest record of the event at the time when a launch comes to the node. INVALID_VALUE."""
    event = driver.handles.get(handle, Event, CuResult.INVALID_VALUE)

    def run(ready_ns: float, queued_ns: float) -> float | Generator[None, None, float]:
        if event.shared is not None:
            return await_shared(event.shared)(ready_ns, queued_ns)
        return ready_ns if event.recorded is None else _until(event.recorded, ready_ns)

    return Task(NodeType.WAIT_EVENT, context, run, handle)


def _until(op: Op, ready_ns: float) -> Generator[None, None, float]:
    while not op.done:
        yield
    return max(ready_ns, op.end_ns)
