"""Which transfers may be measured at once: those that share no link. Pure planning, by what the rig declares.

A full matrix of eight GPUs on NVSwitches, pair after pair, leaves seven eighths of the links idle all the time. In
rounds, every GPU sends to one other and receives from one other: seven rounds for 56 ordered pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from dmaproof.rig.model import HOST, Node

Pair = tuple[str, str]
"""(source, target), by name."""
Round = tuple[Pair, ...]
Links = Callable[[Pair], Collection[str] | None]
"""The links that a transfer takes, by any names; None where they are not known."""
Ends = frozenset[str]
ROOT_COMPLEX = "root complex"


def links(
    node: Node, pair: Pair, straight: Collection[Ends] = (), *, independent: bool = True
) -> frozenset[str] | None:
    """What a transfer between the ends of ``pair`` takes of ``node``, one direction of a link each.

    NVLink: what leaves the source and what enters the target, all of its links at once; that is so behind NVSwitches,
    and no less where GPUs are linked in pairs. PCIe: the same, and above them, unless the two are among ``straight``
    (pairs that a switch is known to hand on to each other), both switches' upstream links and the root complex, of
    whose insides nothing is known. Anything else is not known. Not ``independent``: both directions are one link.
    """
    path = node.path_between(*pair)
    if path is None or HOST in pair or pair[0] == pair[1] or path.kind not in ("nvlink", "pcie"):
        return None
    ways = ("out", "in") if independent else ("", "")
    taken = {f"{end} {path.kind} {way}" for end, way in zip(pair, ways, strict=True)}
    if path.kind == "pcie" and frozenset(pair) not in straight:
        above = [node.switch_above(node.gpu[end]) for end in pair]
        taken |= {f"{one.name} {way}" for one, way in zip(above, ways, strict=True) if one is not None}
        taken.add(ROOT_COMPLEX)
    return frozenset(taken)


def rounds(pairs: Sequence[Pair], links: Links) -> tuple[Round, ...]:
    """``pairs`` in rounds: each once, no two of a round with a link in common, and one whose links are not known alone.

    The fewest rounds of three orders, each pair in the first round that has room: one distance after the other (perfect
    where a GPU's directions are independent), a round-robin tournament (where they are not), and as they came.
    """
    ends = list(dict.fromkeys(end for pair in pairs for end in pair))
    orders = [_ordered(pairs, by_distance(ends)), _ordered(pairs, tournament(ends)), list(pairs)]
    return min((_first_fit(order, links) for order in orders), key=len)


def by_distance(ends: Sequence[str]) -> Iterator[Pair]:
    """Every ordered pair: from each to its next, then from each to the one after, .."""
    count = len(ends)
    yield from ((ends[at], ends[(at + distance) % count]) for distance in range(1, count) for at in range(count))


def tournament(ends: Sequence[str]) -> Iterator[Pair]:
    """Every ordered pair: in each round everyone meets another, first there, then back (the circle method)."""
    places: list[str | None] = [*ends, *([None] if len(ends) % 2 else [])]
    half = len(places) // 2
    for _ in range(len(places) - 1):
        met = [
            (one, other)
            for one, other in zip(places[:half], reversed(places[half:]), strict=True)
            if one is not None and other is not None
        ]
        yield from met
        yield from ((other, one) for one, other in met)
        places = [places[0], places[-1], *places[1:-1]]


def _ordered(pairs: Sequence[Pair], order: Iterator[Pair]) -> list[Pair]:
    wanted = set(pairs)
    return [pair for pair in order if pair in wanted]


def _first_fit(pairs: Sequence[Pair], links: Links) -> tuple[Round, ...]:
    alone: list[Round] = []
    made: list[list[Pair]] = []
    taken: list[set[str]] = []
    for pair in pairs:
        wanted = links(pair)
        if wanted is None:
            alone.append((pair,))
            continue
        at = next((at for at, one in enumerate(taken) if one.isdisjoint(wanted)), len(made))
        if at == len(made):
            made.append([])
            taken.append(set())
        made[at].append(pair)
        taken[at].update(wanted)
    return (*map(tuple, made), *alone)
