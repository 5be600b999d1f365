"""The timeline: order, windows that respect uncertainty, and what could not be seen."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from dmaproof.evidence.event import Event
from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.timeline import Timeline


def at(time_s: float, uncertainty_s: float = 0.0, kind: str = "kernel-line", text: str = "") -> Evidence:
    return Evidence(source="s", node="n", time_s=time_s, kind=kind, text=text, uncertainty_s=uncertainty_s)


def test_order_does_not_depend_on_arrival() -> None:
    timeline = Timeline()
    timeline.add(at(3))
    timeline.extend([at(1), at(2)])
    assert [one.time_s for one in timeline.window(0, 9)] == [1, 2, 3]


def test_a_window_holds_what_may_lie_in_it() -> None:
    timeline = Timeline()
    timeline.extend([at(1), at(4, 1.5), at(5), at(10), at(10.5), at(12, 3), at(20, 2)])
    assert [one.time_s for one in timeline.window(5, 10)] == [4, 5, 10, 12]
    assert [one.time_s for one in timeline.before(5)] == [1]


def test_blind_spots_of_a_window() -> None:
    timeline = Timeline()
    overflow = Event(kind="fault-status", text="", overflow=True)
    timeline.extend(
        [
            at(1, kind="records-lost", text="lost"),
            at(2, kind="records-lost", text="lost"),
            Evidence(source="s", node="n", time_s=3, kind="fault-status", text="overflow", event=overflow),
            at(4, kind="xid", text="seen"),
            at(9, kind="blind-spot", text="later"),
        ]
    )
    assert timeline.blind_spots(0, 5) == ("lost", "overflow")


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 30))), st.floats(0, 100), st.floats(0, 50))
def test_before_and_window_never_overlap_and_lose_nothing(
    pairs: list[tuple[float, float]], start: float, length: float
) -> None:
    many = [at(*pair) for pair in pairs]
    random.Random(1).shuffle(many)
    timeline = Timeline()
    timeline.extend(many)
    before, window = timeline.before(start), timeline.window(start, start + length)
    later = [one for one in many if one.time_s - one.uncertainty_s > start + length]
    assert len(before) + len(window) + len(later) == len(many)
    assert [one.time_s for one in window] == sorted(one.time_s for one in window)
