"""Rounds of transfers that share no link."""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmaproof.rig import load
from dmaproof.rig.model import Node
from dmaproof.rig.rounds import Pair, by_distance, links, rounds, tournament

HGX = load.load("virtual:hgx-h100").first
SWITCH = load.load("virtual:pcie-switch").first
NAMES = [f"g{at}" for at in range(9)]


def of(node: Node, **more: object) -> tuple[tuple[Pair, ...], ...]:
    return rounds(list(permutations(node.gpu, 2)), partial(links, node, **more))  # type: ignore[arg-type]


def test_eight_gpus_on_nvswitches_take_seven_rounds() -> None:
    planned = of(HGX)
    assert [len(one) for one in planned] == [8] * 7


def test_where_directions_are_one_link_they_take_fourteen() -> None:
    assert len(of(HGX, independent=False)) == 14


def test_peers_under_a_switch_that_may_redirect_are_measured_one_after_the_other() -> None:
    """The way up and the root complex are shared; those that are known to go straight take their own links only."""
    assert len(of(SWITCH)) == 12
    straight = {frozenset(pair) for pair in permutations(SWITCH.gpu, 2)}
    assert len(of(SWITCH, straight=straight)) == 3


@pytest.mark.parametrize("kind", ["unknown", "c2c"])
def test_links_that_are_not_known_are_measured_alone(kind: str) -> None:
    paths = tuple(one.model_copy(update={"kind": kind}) if one.kind == "nvlink" else one for one in HGX.path)
    planned = of(HGX.model_copy(update={"path": paths}))
    assert [len(one) for one in planned] == [1] * 56


PAIRS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)).filter(lambda p: p[0] != p[1]), unique=True)
LINKS = st.dictionaries(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.none() | st.frozensets(st.sampled_from("abcdefgh"), max_size=4),
)


@given(PAIRS, LINKS)
def test_every_pair_once_and_no_shared_link(pairs: list[Pair], known: dict[Pair, frozenset[str] | None]) -> None:
    planned = rounds(pairs, known.get)
    assert Counter(pair for one in planned for pair in one) == Counter(pairs)
    for one in planned:
        taken = [known.get(pair) for pair in one]
        assert len(one) == 1 or None not in taken
        assert all(count == 1 for count in Counter(link for each in taken for link in each or ()).values())


@given(st.integers(2, 24), st.data())
def test_a_chosen_part_takes_no_more_rounds_than_all(count: int, data: st.DataObject) -> None:
    names = [f"gpu{at}" for at in range(count)]
    everything = list(permutations(names, 2))
    chosen = data.draw(st.lists(st.sampled_from(everything), unique=True, min_size=1))

    def both_ways(pair: Pair) -> frozenset[str]:
        return frozenset((f"{pair[0]} out", f"{pair[1]} in"))

    busiest = max(Counter(link for pair in chosen for link in both_ways(pair)).values())
    assert busiest <= len(rounds(chosen, both_ways)) <= len(rounds(everything, both_ways)) == count - 1


@pytest.mark.parametrize("count", range(2, 25))
def test_where_directions_are_one_link_a_tournament_is_as_short_as_can_be(count: int) -> None:
    names = [f"gpu{at}" for at in range(count)]
    planned = rounds(list(permutations(names, 2)), frozenset)
    assert len(planned) == 2 * (count - 1 + count % 2)


@given(st.integers(2, 24))
def test_both_orders_hold_every_ordered_pair_once(count: int) -> None:
    names = [f"gpu{at}" for at in range(count)]
    assert Counter(by_distance(names)) == Counter(tournament(names)) == Counter(permutations(names, 2))


def test_a_pair_that_takes_nothing_keeps_no_room_for_two_that_collide() -> None:
    known = {("a", "b"): frozenset[str](), ("a", "c"): frozenset("x"), ("b", "c"): frozenset("x")}
    planned = rounds(list(known), known.get)
    assert sorted(len(one) for one in planned) == [1, 2]
