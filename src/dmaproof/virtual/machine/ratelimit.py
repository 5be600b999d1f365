"""The kernel's rate limit (lib/ratelimit.c): a burst an interval, the rest counted and told of at the next interval."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Admission:
    """``suppressed`` callbacks of earlier windows are to be told of first; ``allowed`` says whether this one prints."""

    allowed: bool
    suppressed: int = 0


@dataclass(slots=True)
class RateLimit:
    """DEFAULT_RATELIMIT_INTERVAL is 5 s, DEFAULT_RATELIMIT_BURST 10. The last window's count is never told of."""

    interval_s: float = 5.0
    burst: int = 10
    _begin: float | None = None
    _printed: int = 0
    _missed: int = 0

    def admit(self, now_s: float) -> Admission:
        """The decision for one callback at ``now_s``, which must not run backwards."""
        suppressed = 0
        if self._begin is None:
            self._begin = now_s
        if now_s > self._begin + self.interval_s:
            suppressed, self._missed = self._missed, 0
            self._begin, self._printed = now_s, 0
        if self._printed < self.burst:
            self._printed += 1
            return Admission(True, suppressed)
        self._missed += 1
        return Admission(False, suppressed)
