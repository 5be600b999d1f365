"""Placing kernel stamps on CLOCK_MONOTONIC: true times always lie in the bounds, which narrow as records come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dmaproof.evidence.kernel_clock import KernelClock

GAPS = st.tuples(st.floats(0.001, 50), st.floats(0, 1))
SLACK = 1e-6


@given(st.floats(-1e5, 1e5), st.lists(GAPS, min_size=1, max_size=30), st.floats(-400e-6, 400e-6))
def test_the_truth_lies_within(offset: float, polls: list[tuple[float, float]], drift: float) -> None:
    """Polls at irregular gaps, one record at a random moment in each, clocks that part as fast as NTP may let them."""
    clock, empty = KernelClock(), 1000.0
    for gap, share in polls:
        arrival = empty + gap
        written = empty + gap * share
        stamp = written - offset - drift * (written - 1000.0)
        found, uncertainty = clock.place(stamp, empty, arrival)
        assert abs(found - written) <= uncertainty + SLACK
        assert uncertainty <= gap / 2 + SLACK
        empty = arrival


def test_bounds_narrow() -> None:
    clock = KernelClock()
    _, first = clock.place(70.0, 100.0, 110.0)
    assert first == 5.0
    clock.place(100.01, 139.99, 140.02)
    _, later = clock.place(150.0, 180.0, 200.0)
    assert later < 0.1


def test_a_jump_starts_anew() -> None:
    clock = KernelClock()
    clock.place(100.0, 99.9, 100.1)
    found, uncertainty = clock.place(4000.0, 110.0, 111.0)
    assert (found, uncertainty) == (110.5, 0.5)
    found, _ = clock.place(4001.0, 111.4, 120.0)
    assert 111.4 <= found <= 112.1
