"""When a test that provokes faults may begin, against the kernel's own rule (lib/ratelimit.c), written out here."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import accumulate

from hypothesis import given, settings
from hypothesis import strategies as st

from dmaproof.evidence.evidence import Evidence
from fixtures.rested import has_room_s

BURST, INTERVAL_S = 10, 5.0
PROVOKED = 6
"""Lines that a test must find left: three faults of VT-d."""


class Limit:
    """___ratelimit, and what the log then has."""

    def __init__(self) -> None:
        self.begin_s, self.left, self.missed = -math.inf, 0, 0
        self.log: list[Evidence] = []

    def ask(self, at_s: float) -> bool:
        if at_s > self.begin_s + INTERVAL_S:
            self.begin_s, self.left = at_s, BURST
            if self.missed:
                self._say("suppressed", at_s)
            self.missed = 0
        if self.left:
            self.left -= 1
            self._say("iommu-fault", at_s)
            return True
        self.missed += 1
        return False

    def _say(self, kind: str, at_s: float) -> None:
        self.log.append(Evidence(source="kmsg", node="host", time_s=at_s, kind=kind, text=kind))


def asked(gaps_s: Iterable[float]) -> Limit:
    limit = Limit()
    for at_s in accumulate(gaps_s):
        limit.ask(at_s)
    return limit


def test_with_nothing_said_there_is_room() -> None:
    assert has_room_s([]) == -math.inf


def test_what_was_suppressed_before_costs_nothing_now() -> None:
    limit = asked([0.0] * 30 + [6.0])
    assert limit.log[-2].kind == "suppressed"
    assert has_room_s(limit.log) == -math.inf


def test_a_spent_interval_is_waited_for_to_its_end_and_no_longer() -> None:
    limit = asked([1.0] * 5)
    assert 6.0 < has_room_s(limit.log) < 6.1


GAPS_S = st.lists(st.sampled_from([0.0, 0.004, 0.3, 1.7, 4.99, 5.01, 9.0]), min_size=5, max_size=40)


@settings(max_examples=500)
@given(GAPS_S, st.sampled_from([0.0, 0.5, 4.9]))
def test_then_the_kernel_prints_all_that_a_test_provokes(gaps_s: list[float], later_s: float) -> None:
    limit = asked(gaps_s)
    begins_s = max(sum(gaps_s), has_room_s(limit.log)) + later_s
    assert all(limit.ask(begins_s) for _ in range(PROVOKED))
