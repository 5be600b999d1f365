"""Storms: what is one and what is not, and memory that does not grow."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from dmaproof.evidence.event import Event
from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import CounterStep, Storm
from dmaproof.evidence.storm import Entry, Gatherer, gather, is_mailbox, words

MAILBOX = 0xF8139000


def fault(address: int | None = 0x10000, time: float | None = 0.0, bdf: str = "0000:04:00.0", text: str = "") -> Event:
    words = f"Request device [{bdf}] fault addr {0 if address is None else address:x} [fault reason 05] {text}"
    return Event(kind="iommu-fault", family="vtd", text=words, time=time, bdf=bdf, address=address, access="write")


def entries(events: Iterable[Event]) -> tuple[Entry, ...]:
    gatherer = Gatherer()
    for event in events:
        gatherer.add(event)
    return gatherer.entries()


def test_one_event_is_itself() -> None:
    assert entries([fault()]) == (Entry(fault(), None),)


def test_the_same_fault_again_is_a_storm_with_its_times() -> None:
    (entry,) = entries(fault(MAILBOX, time) for time in (3.0, 5.0, 4.0))
    assert entry.event == fault(MAILBOX, 3.0)
    assert entry.storm == Storm(count=3, first_s=3.0, last_s=5.0, first_address=MAILBOX, last_address=MAILBOX)


def test_pages_beside_each_other_are_one_range_either_way() -> None:
    (entry,) = entries(fault(page * 0x1000) for page in (20, 21, 22, 19, 21))
    assert entry.storm is not None
    assert (entry.storm.first_address, entry.storm.last_address, entry.storm.count) == (19 << 12, 22 << 12, 5)


def test_pages_apart_are_not() -> None:
    assert [entry.event.address for entry in entries(fault(page * 0x1000) for page in (20, 30))] == [20 << 12, 30 << 12]


def test_a_possible_mailbox_stays_alone() -> None:
    found = entries(fault(MAILBOX + offset) for offset in (-0x1000, 0, 0x1000, 0x40))
    assert [(entry.event.address, entry.storm is None) for entry in found] == [
        (MAILBOX - 0x1000, True),
        (MAILBOX, False),
        (MAILBOX + 0x1000, True),
    ]


def test_what_differs_in_anything_else_is_apart() -> None:
    assert len(entries([fault(), fault(bdf="0000:05:00.0"), fault(text="other words")])) == 3


def test_only_the_whole_address_is_left_out_of_the_words() -> None:
    text = "id 510005 at 0x0000000000005100, 5100 once more"
    assert words(Event(kind="bar", text=text, address=0x5100)) == "id 510005 at 0x@, @ once more"
    assert words(Event(kind="bar", text="id 51000", address=0x5100)) == "id 51000"
    assert words(Event(kind="bar", text="id 151 at 51", address=0x51)) == "id 151 at @"


@given(st.text("01ax ", max_size=30), st.integers(0, 0x11A))
def test_words_are_those_around_the_address_with_any_zeros_before_it(text: str, address: int) -> None:
    expected = re.sub(rf"(?<![0-9a-f])0*{address:x}(?![0-9a-f])", "@", text)
    assert words(Event(kind="bar", text=text, address=address)) == expected


def test_a_line_of_nothing_but_zeros_takes_no_time_to_speak_of() -> None:
    for address in (0, 0x10):  # with the square of the length it would be hours
        assert words(Event(kind="bar", text="0" * 500_000 + "x", address=address))[-1] == "x"


def test_without_an_address_or_a_time() -> None:
    (entry,) = entries([fault(None, None)] * 2)
    assert entry.storm == Storm(count=2, first_s=0.0, last_s=0.0)


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans(), st.floats(0, 9))))
def test_nothing_is_lost_and_mailboxes_are_never_mixed(pages: list[tuple[int, bool, float]]) -> None:
    events = [fault(page << 24 | MAILBOX & 0xFFFFFF if box else page << 12, time) for page, box, time in pages]
    found = entries(events)
    assert sum(entry.storm.count if entry.storm else 1 for entry in found) == len(events)
    for entry in found:
        storm = entry.storm
        if storm is not None and storm.first_address is not None:
            assert is_mailbox(storm.first_address) == is_mailbox(storm.last_address) == is_mailbox(entry.event.address)
            assert storm.first_address <= (entry.event.address or 0) <= (storm.last_address or 0)


def test_memory_is_bounded_whatever_differs() -> None:
    tracemalloc.start()
    gatherer = Gatherer()
    for n in range(10_000):
        gatherer.add(fault((n * 7919 << 20) + 0x1000, n))
        gatherer.add(fault(n << 24 | MAILBOX & 0xFFFFFF, n))
        gatherer.add(fault(bdf=f"{n:04x}:00:00.0", text=f"words {n}"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    found = gatherer.entries()
    assert sum(entry.storm.count if entry.storm else 1 for entry in found) == 30_000
    assert len(found) < 6000
    assert peak < 20_000_000


def test_evidence_keeps_its_order_and_what_is_no_event() -> None:
    def seen(time: float, node: str = "host", event: Event | None = None) -> Evidence:
        kind = "iommu-fault" if event else "hang"
        return Evidence(source="kmsg", node=node, time_s=time, kind=kind, text="", event=event)

    step = CounterStep(bdf="0000:04:00.0", counter="pcie-replay", before=0, after=1)
    other = Evidence(source="nvml", node="host", time_s=2.5, kind="counter-step", text="", fact=step)
    log = [seen(1, event=fault()), seen(2), seen(3, event=fault()), other, seen(4, "guest", fault())]
    first, hang, same, guest = gather(log)
    assert first.fact == Storm(count=2, first_s=1, last_s=3, first_address=0x10000, last_address=0x10000)
    assert (first.event, hang, same, guest.node, guest.fact) == (fault(), log[1], other, "guest", None)
