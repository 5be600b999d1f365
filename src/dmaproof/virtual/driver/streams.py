"""Streams, events and the thread that carries on queued work.

An operation whose stream is idle runs at once, in the thread that queued it. Behind unfinished work it waits, and the
"gpu" thread runs it when its turn comes; kernels that wait for the CPU are generators which that thread polls.
All of this runs under the driver's lock.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from dmaproof.virtual.driver.errors import CuResult, DriverError, NeverCompletesError, say
from dmaproof.virtual.driver.lock import CHANGED, LOCK

if TYPE_CHECKING:
    from dmaproof.virtual.driver.capture import Capture, Moment
    from dmaproof.virtual.driver.ipc import SharedEvent

Run = Callable[[float, float], "float | Generator[None, None, float]"]
"""``run(ready_ns, queued_ns)`` carries an operation out and gives its modelled end; a generator, to be polled."""


_ROUNDS = 16


class Owner(Protocol):
    """The context of a stream: ``fail`` makes an error of its work sticky."""

    error: CuResult | None

    def fail(self, code: CuResult) -> None: ...


@dataclass(eq=False, slots=True)
class Op:
    """One operation. ``after`` must be done first; ``queued_ns`` is what the host had seen completed by then.
    ``given_up`` is called where its context dies before it is done."""

    run: Run
    queued_ns: float
    after: tuple[Op, ...] = ()
    end_ns: float = 0.0
    done: bool = False
    polled: Generator[None, None, float] | None = None
    given_up: Callable[[], None] | None = None


@dataclass(eq=False, slots=True)
class Stream:
    """``at_ns`` is the modelled end of the last operation done. A ``stuck`` stream's head never completes. While there
    is a ``capture``, operations go there instead."""

    context: Owner
    blocking: bool
    flags: int = 0
    priority: int = 0
    number: int = 0
    handle: int = 0
    at_ns: float = 0.0
    stuck: bool = False
    queue: deque[Op] = field(default_factory=deque)
    last: Op | None = None
    capture: Capture | None = None

    @property
    def idle(self) -> bool:
        return not self.queue


@dataclass(eq=False, slots=True)
class Event:
    """``recorded`` is the operation of the latest record, or ``captured`` the moment in a capture; timing is off with
    CU_EVENT_DISABLE_TIMING (2). ``shared``: what other processes see of one with CU_EVENT_INTERPROCESS."""

    context: Owner
    flags: int
    recorded: Op | None = None
    captured: Moment | None = None
    shared: SharedEvent | None = None

    @property
    def timed(self) -> bool:
        return not self.flags & 2


class Scheduler:
    """Runs what is queued on any stream, in stream order, taking turns between streams."""

    def __init__(self) -> None:
        self._busy: dict[Stream, None] = {}
        self._thread: threading.Thread | None = None

    def queue(self, stream: Stream, op: Op) -> None:
        """Put ``op`` behind all work of ``stream``; carry it out now if nothing stands before it."""
        stream.queue.append(op)
        stream.last = op
        if len(stream.queue) == 1:
            self._advance(stream)
        if stream.queue and not stream.stuck:
            self._busy[stream] = None
            self._start()
        CHANGED.notify_all()

    def drop(self, streams: Iterable[Stream]) -> None:
        """Give up all work of ``streams``: their context is dead, and whoever waits is told so by its error."""
        for stream in streams:
            for op in stream.queue:
                if op.polled is not None:
                    op.polled.close()
                op.done, op.end_ns = True, stream.at_ns
                if op.given_up is not None:
                    op.given_up()
            stream.queue.clear()
            stream.stuck = False
            self._busy.pop(stream, None)
        CHANGED.notify_all()

    def _advance(self, stream: Stream) -> bool:
        """Carry on the head of ``stream``; whether it is done."""
        op = stream.queue[0]
        if not all(before.done for before in op.after):
            return False
        try:
            end_ns = self._step(stream, op)
        except NeverCompletesError:
            stream.stuck = True
            return False
        except DriverError as error:
            if error.message:
                say(error.message)
            for owner in (*error.victims, stream.context):
                owner.fail(error.code)
            return True
        except Exception:  # noqa: BLE001 - a defect of the driver ends the context, it must not end the gpu thread
            say(f"an operation failed inside the driver:\n{traceback.format_exc()}")
            stream.context.fail(CuResult.UNKNOWN)
            return True
        if end_ns is None:
            return False
        op.done, op.end_ns, stream.at_ns, op.after = True, end_ns, end_ns, ()
        stream.queue.popleft()
        return True

    def _step(self, stream: Stream, op: Op) -> float | None:
        if op.polled is None:
            ready = max([stream.at_ns, op.queued_ns, *(before.end_ns for before in op.after)])
            result = op.run(ready, op.queued_ns)
            if isinstance(result, float | int):
                return result
            op.polled = result
        try:
            next(op.polled)
        except StopIteration as stop:
            return float(stop.value)
        return None

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._pump, name="dmaproof-gpu", daemon=True)
            self._thread.start()

    def _pump(self) -> None:
        backoff = _Backoff()
        while True:
            with LOCK:
                moved = self._rounds()
                if not moved and not self._polling:
                    backoff.rest()
                    CHANGED.wait()
                    continue
            backoff.pause(moved)

    @property
    def _polling(self) -> bool:
        return any(stream.queue and stream.queue[0].polled is not None for stream in self._busy)

    def _rounds(self) -> bool:
        """A few at once: to wake whoever waits, and to let others have the lock, takes longer than a copy."""
        moved = self._round()
        if moved:
            for _ in range(_ROUNDS):
                if self._polling or not self._round():
                    break
            CHANGED.notify_all()
        return moved

    def _round(self) -> bool:
        moved = False
        for stream in list(self._busy):
            moved = (bool(stream.queue) and self._advance(stream)) or moved
            if not stream.queue or stream.stuck:
                self._busy.pop(stream, None)
        return moved


class _Backoff:
    """How the gpu thread waits between polls: at first it only yields, after a while it sleeps.

    A CPU thread that spins on a flag in Python holds the interpreter for a switch interval at a time (5 ms), a
    thousand times what a kernel takes to answer: while kernels are polled, the interval is short.
    """

    _SWITCH_S, _PATIENCE_S, _SLEEP_S = 5e-5, 0.02, 2e-4

    def __init__(self) -> None:
        self._usual_s: float | None = None
        self._since = time.monotonic()

    def pause(self, moved: bool) -> None:
        now = time.monotonic()
        if moved:
            self._since = now
        if self._usual_s is None:
            self._usual_s, self._since = sys.getswitchinterval(), now
            sys.setswitchinterval(self._SWITCH_S)
        time.sleep(0 if now - self._since < self._PATIENCE_S else self._SLEEP_S)

    def rest(self) -> None:
        if self._usual_s is not None:
            sys.setswitchinterval(self._usual_s)
            self._usual_s = None
