"""The modelled clock: when an operation ends, from the rate and latency of its path and what else uses the link.

Times are nanoseconds since the driver was loaded, as floats. Real time does not pass here: an operation takes what
its path says, and a stream's work starts when its predecessors, its engines and the host that queued it are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

Resource = tuple[int, str, str]
"""(GPU ordinal, kind of path, "out" or "in"): one direction of one link of one GPU."""


@dataclass(frozen=True, slots=True)
class Leg:
    """One path that an operation's data takes: ``transfer_ns`` is bytes over rate."""

    resources: tuple[Resource, ...]
    transfer_ns: float
    latency_ns: float


@dataclass(slots=True)
class Clock:
    """``host_ns`` is the latest instant whose work the host has seen completed; ``free`` when a link direction is."""

    host_ns: float = 0.0
    free: dict[Resource, float] = field(default_factory=dict)

    def observed(self, instant_ns: float) -> None:
        """The host waited for work that ended then: what it queues from now on starts no earlier."""
        self.host_ns = max(self.host_ns, instant_ns)

    def carry_out(self, ready_ns: float, queued_ns: float, legs: Sequence[Leg], extra_ns: float = 0.0) -> float:
        """The end of an operation that may start at ``ready_ns`` and was queued when the host stood at ``queued_ns``.

        Legs run side by side (a staged copy is pipelined): the slowest one counts. ``extra_ns`` comes before them.
        """
        start = max([ready_ns, *(self.free.get(one, 0.0) for leg in legs for one in leg.resources)]) + extra_ns
        end = start
        for leg in legs:
            leg_end = start + self._duration(leg, start - extra_ns, queued_ns)
            self.free.update(dict.fromkeys(leg.resources, leg_end))
            end = max(end, leg_end)
        return end

    def _duration(self, leg: Leg, start_ns: float, queued_ns: float) -> float:
        """On an idle engine the first byte takes the latency. Behind other work the next request is already under
        way, but in stream order no operation is over sooner than its own latency."""
        last = max((self.free.get(one, -1.0) for one in leg.resources), default=-1.0)
        idle = last < start_ns or last <= queued_ns
        return leg.latency_ns + leg.transfer_ns if idle else max(leg.latency_ns, leg.transfer_ns)
