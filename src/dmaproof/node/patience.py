"""A deadline that stands still while the worker could run and has no processor: an overloaded machine is no hang."""

from __future__ import annotations

from dataclasses import dataclass, field

from dmaproof.node import proc
from dmaproof.node.deadline import Deadline

TIMES = 10.0
"""How many times its own length a deadline is put off to at most."""
_LEAST_S = 0.05


@dataclass(slots=True)
class Patience:
    """``deadline``, put off by what a thread of process ``pid``, or of what that started, waited for a processor, to
    ``times`` its own length at most; ``given_s`` is by how much it was. Of several threads that waited the longest
    counts: they wait side by side."""

    deadline: Deadline
    pid: int
    times: float
    given_s: float = 0.0
    _queued_s: dict[int, float] | None = field(default=None, init=False)

    def ended(self) -> bool:
        """Whether there is no more to wait for. Counts from the first time that it is asked: what is answered before
        costs nothing."""
        if self._queued_s is None:
            self._queued_s = proc.queued_s(self.pid)
        if not self.deadline.passed:
            return False
        now_s = proc.queued_s(self.pid)
        waited_s = max((now_s[thread] - self._queued_s.get(thread, 0.0) for thread in now_s), default=0.0)
        more_s = min(waited_s, self.deadline.seconds * (self.times - 1) - self.given_s)
        self._queued_s = now_s
        if more_s < _LEAST_S:
            return True
        self.given_s += more_s
        self.deadline = self.deadline.later(more_s)
        return self.deadline.passed
