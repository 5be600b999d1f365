"""Stream capture: what is asked of a stream becomes a graph (cuda.h, cuStreamBeginCapture and what follows it; CUDA C++
Programming Guide, "Creating a Graph Using Stream Capture").

A capture spreads from its first stream to others by events, and must come back the same way. What cannot be captured,
and what may be unsafe meanwhile, is refused and invalidates the capture.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from dmaproof.virtual.driver.errors import CuResult, DriverError
from dmaproof.virtual.driver.graphs import Graph, Node, Task
from dmaproof.virtual.driver.streams import Event, Stream

GLOBAL, THREAD_LOCAL, RELAXED = 0, 1, 2  # CUstreamCaptureMode (cuda.h)

_UNSAFE = frozenset(
    (
        "cuMemAlloc",
        "cuMemAllocPitch",
        "cuMemAllocManaged",
        "cuMemAllocHost",
        "cuMemHostAlloc",
        "cuMemHostRegister",
        "cuMemHostUnregister",
        "cuMemFree",
        "cuMemFreeHost",
        "cuEventQuery",
        "cuEventSynchronize",
        "cuMemcpy",
        "cuMemcpyHtoD",
        "cuMemcpyDtoH",
        "cuMemcpyDtoD",
        "cuMemcpyPeer",
        "cuMemsetD8",
        "cuMemsetD16",
        "cuMemsetD32",
        "cuMemcpy2D",
        "cuMemcpy2DUnaligned",
        "cuMemcpy3D",
        "cuMemcpy3DPeer",
        "cuMemsetD2D8",
        "cuMemsetD2D16",
        "cuMemsetD2D32",
    )
)
"""Calls that no stream orders (cuThreadExchangeStreamCaptureMode names cudaMalloc). cuEventQuery is one: frameworks
whose watchdog threads ask events capture with another mode than GLOBAL for that reason. The documentation does not
list them all; those that it is silent about are allowed here."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What an event stands for that was recorded in a capturing stream: the work before it."""

    capture: Capture
    nodes: tuple[Node, ...]


@dataclass(eq=False, slots=True)
class Capture:
    """``tips`` by stream: what the next operation of the stream comes after. ``thread`` began it."""

    graph: Graph
    origin: Stream
    mode: int
    thread: int
    number: int
    tips: dict[Stream, tuple[Node, ...]] = field(default_factory=dict)
    invalid: bool = False

    def join(self, stream: Stream, tips: Iterable[Node]) -> None:
        """``stream`` is captured from now on, and its next operation comes after ``tips`` too."""
        stream.capture = self
        self.tips[stream] = tuple(dict.fromkeys((*self.tips.get(stream, ()), *tips)))

    def take(self, stream: Stream, task: Task) -> Node:
        """``task`` becomes a node. STREAM_CAPTURE_INVALIDATED after an error."""
        self.check()
        node = self.graph.add(task, self.tips[stream])
        self.tips[stream] = (node,)
        return node

    def check(self) -> None:
        if self.invalid:
            raise DriverError(CuResult.STREAM_CAPTURE_INVALIDATED)

    def unjoined(self) -> bool:
        """Whether work of another stream is not before the end of the first one."""
        reached, left = set[Node](), list(self.tips[self.origin])
        while left:
            node = left.pop()
            if node not in reached:
                reached.add(node)
                left += node.after
        return any(tip not in reached for stream, tips in self.tips.items() if stream.capture is self for tip in tips)


class Captures:
    """The captures under way in this process, and each thread's mode."""

    def __init__(self) -> None:
        self.active: list[Capture] = []
        self._numbers = itertools.count(1)
        self._thread = threading.local()

    @property
    def mode(self) -> int:
        """How captures limit the calling thread."""
        return getattr(self._thread, "mode", GLOBAL)

    @mode.setter
    def mode(self, mode: int) -> None:
        self._thread.mode = mode

    def begin(self, stream: Stream, mode: int, graph: Graph, tips: Iterable[Node] = ()) -> Capture:
        capture = Capture(graph, stream, mode, threading.get_ident(), next(self._numbers))
        capture.join(stream, tips)
        self.active.append(capture)
        return capture

    def end(self, capture: Capture) -> None:
        """Its streams work again."""
        self.active.remove(capture)
        for stream in capture.tips:
            if stream.capture is capture:
                stream.capture = None

    def refuse_implicit(self, stream: Stream) -> None:
        """The legacy stream waits for all blocking ones: while one is captured it cannot be used."""
        if self.active and stream is getattr(stream.context, "legacy", None):
            _refuse(self.blocking(stream), CuResult.STREAM_CAPTURE_IMPLICIT)

    def blocking(self, legacy: Stream) -> list[Capture]:
        """Captures that hold blocking streams of the legacy stream's context."""
        return [one for one in self.active if any(s.blocking and s.context is legacy.context for s in one.tips)]

    def limiting(self) -> Iterator[Capture]:
        """Those on whose account the calling thread may make no unsafe call."""
        me = threading.get_ident()
        for one in self.active:
            own = one.thread == me and one.mode != RELAXED
            if self.mode != RELAXED and (own or (self.mode == GLOBAL and one.mode == GLOBAL)):
                yield one


def check_safe(captures: Captures, name: str) -> None:
    """Refuses call ``name`` where a capture makes it unsafe."""
    if captures.active and name in _UNSAFE:
        _refuse(list(captures.limiting()), CuResult.STREAM_CAPTURE_UNSUPPORTED)


def refuse_waiting(captures: Captures, streams: Iterable[Stream]) -> None:
    """Waiting for streams, or asking how far they are, while one is captured."""
    if captures.active:
        _refuse([one.capture for one in streams if one.capture is not None], CuResult.STREAM_CAPTURE_UNSUPPORTED)


def refuse_captured(event: Event) -> None:
    """An event that stands for work in a capture is never done."""
    if event.captured is not None:
        _refuse([event.captured.capture], CuResult.CAPTURED_EVENT)


def record(event: Event, stream: Stream) -> None:
    """The event now stands for the work captured from ``stream`` so far."""
    assert stream.capture is not None  # noqa: S101
    stream.capture.check()
    event.captured = Moment(stream.capture, stream.capture.tips[stream])


def wait(captures: Captures, stream: Stream, event: Event) -> None:
    """The next operation of ``stream`` comes after the event: a stream that was not captured is from now on."""
    moment = event.captured
    if moment is None:  # work outside the capture: the graph could not wait for it when it is launched again
        assert stream.capture is not None  # noqa: S101
        _refuse([stream.capture], CuResult.STREAM_CAPTURE_ISOLATION)
        return
    if moment.capture not in captures.active:
        raise DriverError(CuResult.CAPTURED_EVENT)
    if stream.capture not in (None, moment.capture):
        _refuse([moment.capture, *([stream.capture] if stream.capture else [])], CuResult.STREAM_CAPTURE_MERGE)
    moment.capture.check()
    if stream.capture is None and stream is getattr(stream.context, "legacy", None):
        _refuse([moment.capture], CuResult.STREAM_CAPTURE_IMPLICIT)
    moment.capture.join(stream, moment.nodes)


def _refuse(captures: list[Capture], code: CuResult) -> None:
    if captures:
        for one in captures:
            one.invalid = True
        raise DriverError(code)
