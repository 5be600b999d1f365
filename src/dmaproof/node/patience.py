"""A deadline that stands still while the worker could run and has no processor: an overloaded machine is no hang."""

from __future__ import annotations

from dataclasses import dataclass

from dmaproof.node import proc
from dmaproof.node.deadline import Deadline

TIMES = 10.0
"""How many times its own length a deadline is put off to at most."""
_LEAST_S = 0.05


@dataclass(slots=True)
class Patience:
    """``deadline``, put off by what process ``pid`` waited for a processor since it had waited for ``queued_s``, to
    ``times`` its own length at most; ``given_s`` is by how much it was."""

    deadline: Deadline
    pid: int
    queued_s: float
    times: float
    given_s: float = 0.0

    def ended(self) -> bool:
        """Whether there is no more to wait for."""
        if not self.deadline.passed:
            return False
        queued_s = proc.queued_s(self.pid)
        more_s = min(queued_s - self.queued_s, self.deadline.seconds * (self.times - 1) - self.given_s)
        self.queued_s = queued_s
        if more_s < _LEAST_S:
            return True
        self.given_s += more_s
        self.deadline = self.deadline.later(more_s)
        return self.deadline.passed
