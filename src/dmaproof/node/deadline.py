"""Deadlines are absolute times: handed down, they cannot grow."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadline:
    """``at_s`` on CLOCK_MONOTONIC; ``seconds`` is what was asked for, kept for messages."""

    at_s: float
    seconds: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds, seconds)

    @property
    def remaining_s(self) -> float:
        """Seconds left, never negative: what a wait may be given."""
        return max(0.0, self.at_s - time.monotonic())

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self.at_s

    def later(self, seconds: float) -> Deadline:
        """This deadline put off by ``seconds``, for time that was not spent on what it is for."""
        return Deadline(self.at_s + seconds, self.seconds)

    def sooner(self, seconds: float) -> Deadline:
        """This deadline, or one ``seconds`` from now if that comes first."""
        other = Deadline.after(seconds)
        return other if other.at_s < self.at_s else self
