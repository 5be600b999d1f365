"""Where a kernel time stamp lies on CLOCK_MONOTONIC, found by cause and effect alone."""

from __future__ import annotations

import math

_DRIFT = 500e-6
"""How fast the clocks may part: NTP slews CLOCK_MONOTONIC by up to 500 ppm (adjtimex(2)), local_clock() not at all."""


class KernelClock:
    """Bounds on the offset from printk's clock to CLOCK_MONOTONIC.

    printk stamps records with local_clock() (kernel/printk/printk.c), which starts near CLOCK_MONOTONIC but is another
    clock: it drifts, and on some machines it runs on through suspend. It cannot be asked from user space, so nothing is
    assumed about the offset. What is known: a record was written before it was read, and after the last time the log
    was seen empty. Each record so gives two bounds on the offset; all that were seen, widened by the possible drift,
    are kept together. Where a record contradicts them the clocks have jumped (suspend), and its own bounds count.
    """

    def __init__(self) -> None:
        self._low, self._high = -math.inf, math.inf
        self._since_s = 0.0  # the bounds come from records that are no older

    def place(self, kernel_s: float, after_s: float, before_s: float) -> tuple[float, float]:
        """``(time_s, uncertainty_s)`` on CLOCK_MONOTONIC of what was stamped ``kernel_s`` between the two moments."""
        aged = _DRIFT * max(0.0, after_s - self._since_s)
        self._low, self._high, self._since_s = self._low - aged, self._high + aged, after_s
        drift = _DRIFT * max(0.0, before_s - after_s)
        low = max(after_s, kernel_s + self._low - drift)
        high = min(before_s, kernel_s + self._high + drift)
        if low > high:
            low, high = after_s, before_s
            self._low, self._high = -math.inf, math.inf
        self._low = max(self._low, after_s - kernel_s)
        self._high = min(self._high, before_s - kernel_s)
        return (low + high) / 2, (high - low) / 2
