"""A rate limit that speaks: what a limiter of the kernel's suppressed is told of at its next turn."""

from __future__ import annotations

from dataclasses import dataclass, field

from dmaproof.virtual.machine.kmsg import WARNING, KernelLog
from dmaproof.virtual.machine.ratelimit import RateLimit


@dataclass(slots=True)
class Limited:
    """___ratelimit() of lib/ratelimit.c; ``function`` is the C function that asks, whose name the kernel prints."""

    log: KernelLog
    function: str
    limit: RateLimit = field(default_factory=RateLimit)

    def admits(self, now_s: float) -> bool:
        """Whether this callback prints; what was suppressed before is told of first."""
        admission = self.limit.admit(now_s)
        if admission.suppressed:
            self.log.write(f"{self.function}: {admission.suppressed} callbacks suppressed", WARNING)
        return admission.allowed
