from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dmaproof.virtual.machine.ratelimit import Admission, RateLimit

steps = st.lists(st.floats(min_value=0, max_value=3, allow_nan=False), max_size=200)


@given(steps)
def test_every_callback_prints_or_is_told_of_or_waits_for_the_next_window(gaps: list[float]) -> None:
    limit, now, printed, told = RateLimit(), 0.0, 0, 0
    for gap in gaps:
        now += gap
        admission = limit.admit(now)
        printed += admission.allowed
        told += admission.suppressed
    # A look one window later tells of all the rest: nothing is counted twice, nothing is forgotten.
    told += limit.admit(now + 5.1).suppressed
    assert printed + told == len(gaps)


@given(steps)
def test_no_window_prints_more_than_its_burst(gaps: list[float]) -> None:
    limit, now, begin, printed = RateLimit(interval_s=5, burst=10), 0.0, None, 0
    for gap in gaps:
        now += gap
        if begin is None or now > begin + 5:
            begin, printed = now, 0
        printed += limit.admit(now).allowed
        assert printed <= 10


def test_the_count_comes_with_the_first_callback_of_the_next_window() -> None:
    limit = RateLimit()
    burst = [limit.admit(0.001 * number) for number in range(25)]
    assert [one.allowed for one in burst] == [True] * 10 + [False] * 15
    assert limit.admit(5.0) == Admission(False)  # the interval must have passed, not just been reached
    assert limit.admit(5.001) == Admission(True, suppressed=16)
    assert limit.admit(5.002) == Admission(True)
