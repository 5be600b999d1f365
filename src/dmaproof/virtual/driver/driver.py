"""The state of the driver in this process: what cuInit makes, and how calls find it."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable

from dmaproof.virtual.driver.abi import Needs
from dmaproof.virtual.driver.address_space import AddressSpace
from dmaproof.virtual.driver.callbacks import Callbacks
from dmaproof.virtual.driver.capture import Captures, check_safe
from dmaproof.virtual.driver.clock import Clock
from dmaproof.virtual.driver.errors import CuResult, DriverError, not_supported
from dmaproof.virtual.driver.gpus import Context, Device, Fabric
from dmaproof.virtual.driver.graph_memory import GraphMemories
from dmaproof.virtual.driver.graphs import Task
from dmaproof.virtual.driver.handles import Handles
from dmaproof.virtual.driver.ipc import Opened
from dmaproof.virtual.driver.lock import CHANGED
from dmaproof.virtual.driver.machine import MachineLink, open_machine
from dmaproof.virtual.driver.pools import PlacePools
from dmaproof.virtual.driver.streams import Op, Run, Scheduler, Stream

LEGACY_STREAM, PER_THREAD_STREAM = 1, 2
_ROOM_PER_GPU = 4
"""Times a GPU's memory that is reserved in addresses, so that freed ones are not soon used again."""


class Driver:
    """Everything behind cuInit. All use is under the driver's lock."""

    def __init__(self, link: MachineLink) -> None:
        self.link = link
        self.fabric = Fabric(link.node)
        ordered = sorted(link.node.gpus, key=lambda gpu: gpu.bdf)
        self.devices = tuple(Device(number, gpu) for number, gpu in enumerate(ordered))
        self.by_bdf = {device.bdf: device for device in self.devices}
        self.handles, self.clock, self.scheduler = Handles(), Clock(), Scheduler()
        self.space = AddressSpace(_ROOM_PER_GPU * sum(device.memory_nbytes for device in self.devices))
        self.held: dict[object, float] = {}
        self.releases: dict[object, float] = {}
        self.captures, self.pools = Captures(), PlacePools()
        self.callbacks, self.graph_memory = Callbacks(), GraphMemories()
        self.opened: dict[object, Opened] = {}  # by handle and context
        self.prefetched: list[tuple[int, int, int]] = []  # start, end, location: of memory that CUDA did not hand out
        self._numbers = itertools.count(1)
        self._thread = threading.local()

    def next_stream_number(self) -> int:
        return next(self._numbers)

    def device(self, ordinal: int) -> Device:
        if not 0 <= ordinal < len(self.devices):
            raise DriverError(CuResult.INVALID_DEVICE)
        return self.devices[ordinal]

    @property
    def stack(self) -> list[Context | None]:
        """The calling thread's contexts, the current one last."""
        stack: list[Context | None] | None = getattr(self._thread, "stack", None)
        if stack is None:
            stack = self._thread.stack = []
        return stack

    @property
    def current(self) -> Context | None:
        return self.stack[-1] if self.stack else None

    def context(self) -> Context:
        """The calling thread's current context, fit for use."""
        if self.current is None:
            raise DriverError(CuResult.INVALID_CONTEXT)
        self.current.check()
        return self.current

    def stream(self, handle: int) -> Stream:
        """The stream behind ``handle``: 0 and 1 are the legacy default stream, 2 the per-thread one."""
        if handle in (0, LEGACY_STREAM):
            return self.context().legacy
        if handle == PER_THREAD_STREAM:
            return self.context().per_thread
        stream = self.handles.get(handle, Stream)
        stream.context.check() if isinstance(stream.context, Context) else None
        return stream

    def submit(self, stream: Stream, task: Task) -> None:
        """``task`` is to be done in ``stream``'s order: now, or by the graph that the stream is captured into."""
        if stream.capture is not None:
            stream.capture.take(stream, task)
        else:
            self.queue(stream, task.run)

    def queue(self, stream: Stream, run: Run, after: tuple[Op, ...] = ()) -> Op:
        """Put an operation on ``stream``, ordered with the legacy default stream as CUDA orders it."""
        if stream.capture is not None:
            raise not_supported("capturing this operation into a graph")
        self.captures.refuse_implicit(stream)
        assert isinstance(stream.context, Context)  # noqa: S101
        context, before = stream.context, list(after)
        if stream is context.legacy:
            before += [one.last for one in context.streams if one.blocking and one.last and one is not stream]
        elif stream.blocking and context.legacy.last:
            before.append(context.legacy.last)
        op = Op(run, self.clock.host_ns, tuple(before))
        self.scheduler.queue(stream, op)
        return op

    def wait(self, context: Context, done: Callable[[], bool]) -> None:
        """Wait, with the interpreter lock free, until ``done``; an error of ``context`` meanwhile is raised."""
        while not done():
            context.check()
            CHANGED.wait(0.05)
        context.check()

    def synchronize(self, stream: Stream) -> None:
        """Wait for all work queued on ``stream`` so far."""
        assert isinstance(stream.context, Context)  # noqa: S101
        last = stream.last
        if last is not None:
            self.wait(stream.context, lambda: last.done)
            self.clock.observed(last.end_ns)

    def synchronize_context(self, context: Context) -> None:
        for stream in list(context.streams):
            self.synchronize(stream)
        context.check()

    def synchronize_all(self) -> None:
        """Wait for every context that still works: memory that all GPUs reach is about to go."""
        for context in [context for device in self.devices for context in device.contexts]:
            if context.error is None:
                self.synchronize_context(context)


_state: list[Driver] = []
_forked: list[int] = []
"""Filled in a process that was forked from one with a driver. Asking for the process's number at every call costs more
than some calls do."""
os.register_at_fork(after_in_child=lambda: _forked.append(os.getpid()) if _state else None)


def initialize() -> None:
    """cuInit: connect to the machine, once."""
    if not _state:
        _state.append(Driver(open_machine()))
    driver()


def driver() -> Driver:
    """The driver of this process; NOT_INITIALIZED before cuInit, and in a child forked after it."""
    if not _state or _forked:
        raise DriverError(CuResult.NOT_INITIALIZED)
    return _state[0]


def check_needs(name: str, needs: Needs) -> None:
    """What abi runs before every call."""
    if needs == "nothing":
        return
    state = driver()
    if state.callbacks.here:
        raise DriverError(CuResult.NOT_PERMITTED)
    check_safe(state.captures, name)
    if needs == "context" and state.current is not None:
        state.current.check()
