"""Tables of ranges against the plainest model there is: a set of addresses."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from dmaproof.guest.audit.table import Entry, Range, Table, joined, less

TOP = 24


@st.composite
def ranges(draw: st.DrawFn) -> Range:
    first = draw(st.integers(0, TOP))
    return Range(first, draw(st.integers(first, TOP)))


def addresses(parts: object) -> set[int]:
    return {at for part in parts for at in range(part.first, part.last + 1)}  # type: ignore[attr-defined]


def is_apart(parts: tuple[Range, ...]) -> bool:
    return all(one.last < other.first for one, other in pairwise(parts))


@settings(deadline=None)
@given(ranges(), st.lists(ranges()))
def test_less_is_difference(whole: Range, parts: list[Range]) -> None:
    left = less(whole, parts)
    assert addresses(left) == addresses([whole]) - addresses(parts)
    assert is_apart(left)


@settings(deadline=None)
@given(st.lists(ranges()))
def test_joined_is_union_with_nothing_that_touches(parts: list[Range]) -> None:
    found = joined(parts)
    assert addresses(found) == addresses(parts)
    assert all(one.last + 1 < other.first for one, other in pairwise(found))


@settings(deadline=None)
@given(ranges(), ranges())
def test_overlap_is_intersection(one: Range, other: Range) -> None:
    found = one.overlap(other)
    assert addresses([found] if found else []) == addresses([one]) & addresses([other])
    assert one.holds(other) == (addresses([other]) <= addresses([one]))


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), ranges())), ranges())
def test_a_table_holds_what_was_added_last_and_not_removed(steps: list[tuple[bool, Range]], wanted: Range) -> None:
    table, model = Table(), dict[int, str]()
    for number, (adds, where) in enumerate(steps):
        if adds:
            table.add(Entry(where, origin=str(number)))
            model.update(dict.fromkeys(addresses([where]), str(number)))
        else:
            table.remove(where)
            model = {at: origin for at, origin in model.items() if at not in addresses([where])}
    assert {at: entry.origin for entry in table for at in addresses([entry.range])} == model
    assert is_apart(tuple(entry.range for entry in table))
    assert addresses(table.gaps(wanted)) == addresses([wanted]) - model.keys()
    assert {entry.origin for entry in table.within(wanted)} == {model[at] for at in addresses([wanted]) & model.keys()}


def test_the_last_page_of_64_bits_has_no_end_beyond_it() -> None:
    table, top = Table(), Range((1 << 64) - 4096, (1 << 64) - 1)
    table.add(Entry(Range(0, (1 << 64) - 1)))
    table.remove(top)
    assert [entry.range for entry in table] == [Range(0, (1 << 64) - 4097)]
    assert table.gaps(top) == (top,)
