"""All evidence of a run in time order; a test's window is a slice of it."""

from __future__ import annotations

import bisect
from collections.abc import Iterable

from dmaproof.evidence.evidence import Evidence


def _earliest(one: Evidence) -> float:
    return one.time_s - one.uncertainty_s


def _latest(one: Evidence) -> float:
    return one.time_s + one.uncertainty_s


class Timeline:
    """Evidence of all nodes and sources, by ``time_s`` (CLOCK_MONOTONIC of this process)."""

    def __init__(self) -> None:
        self._all: list[Evidence] = []
        self._widest_s = 0.0

    def add(self, one: Evidence) -> None:
        bisect.insort(self._all, one, key=lambda other: other.time_s)
        self._widest_s = max(self._widest_s, one.uncertainty_s)

    def extend(self, many: Iterable[Evidence]) -> None:
        for one in many:
            self.add(one)

    def window(self, start_s: float, end_s: float) -> tuple[Evidence, ...]:
        """What may have happened from ``start_s`` to ``end_s``, both included, in time order: an observation belongs
        to a window when its time could lie in it. One with a wide uncertainty can so belong to two windows."""
        first = bisect.bisect_left(self._all, start_s - self._widest_s, key=lambda one: one.time_s)
        last = bisect.bisect_right(self._all, end_s + self._widest_s, key=lambda one: one.time_s)
        return tuple(one for one in self._all[first:last] if _latest(one) >= start_s and _earliest(one) <= end_s)

    def before(self, start_s: float) -> tuple[Evidence, ...]:
        """What certainly happened before ``start_s``, in time order: nothing that ``window(start_s, ..)`` has."""
        last = bisect.bisect_left(self._all, start_s, key=lambda one: one.time_s)
        return tuple(one for one in self._all[:last] if _latest(one) < start_s)

    def blind_spots(self, start_s: float, end_s: float) -> tuple[str, ...]:
        """What could not be seen in the window, each sentence once: lost and suppressed records, overflows, sources
        that did not work."""
        return tuple(dict.fromkeys(one.text for one in self.window(start_s, end_s) if _hides(one)))


def _hides(one: Evidence) -> bool:
    overflowed = one.event is not None and bool(one.event.overflow)
    return overflowed or one.kind in ("blind-spot", "records-lost", "suppressed", "overflow")
