"""Functions of the program that the driver calls when a stream comes to them: all in one thread of its own, one after
the other, outside the driver's lock. CUDA is out of bounds there (cuda.h, cuLaunchHostFunc and cuStreamAddCallback)."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass

from dmaproof.virtual.driver.lock import CHANGED
from dmaproof.virtual.driver.streams import Run


@dataclass(eq=False, slots=True)
class Call:
    """One call of ``function``. Once ``started`` it cannot be taken back."""

    function: Callable[[], None]
    started: bool = False
    dropped: bool = False
    done: bool = False


class Callbacks:
    """The thread and what it has to do."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def here(self) -> bool:
        """Whether the calling thread is in such a function."""
        return threading.current_thread() is self._thread

    def start(self, function: Callable[[], None]) -> Call:
        """Have ``function`` called soon. Under the driver's lock."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="dmaproof-callbacks", daemon=True)
            self._thread.start()
        one = Call(function)
        self._calls.put(one)
        return one

    def running(self, function: Callable[[], None]) -> Run:
        """Work that is to call ``function`` and wait until it returns. The modelled clock stands still for it."""

        def run(ready_ns: float, _: float) -> Generator[None, None, float]:
            return self._await(function, ready_ns)

        return run

    def _await(self, function: Callable[[], None], ready_ns: float) -> Generator[None, None, float]:
        one = self.start(function)
        try:
            while not one.done:
                yield
        finally:
            one.dropped = True
        return ready_ns

    def _work(self) -> None:
        while True:
            one = self._calls.get()
            with CHANGED:
                one.started = not one.dropped
            if one.started:
                one.function()
            with CHANGED:
                one.done = True
                CHANGED.notify_all()
