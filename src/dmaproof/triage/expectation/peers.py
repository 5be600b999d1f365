"""A figure beside its peers: one slow pair among 56 is found without any baseline.

Of figures of one kind, the middle one (of two middle ones the better) is what this machine can do, and the median
distance from it (MAD) is how figures differ here. One is an outlier where even its best sample is further away than
FACTOR times that, as of a normal distribution, and than a floor: of eight figures that are alike to the last digit, the
ninth is no outlier for a difference of 1 %.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from dmaproof.rig.model import Node
from dmaproof.triage.expectation.alike import Kind, by_kind
from dmaproof.triage.expectation.figure import Figure, Judgement

LEAST = 4
"""Of fewer figures nobody can say which is the odd one."""
FACTOR = 5.0
_NORMAL = 1.4826
"""A MAD times this is the standard deviation, where figures are normally distributed."""
FLOOR, FLOOR_LATENCY, FLOOR_SMALL = 0.10, 0.25, 0.25
"""What figures may differ by anyway, as a part of the middle one: rates, latencies, and rates of small copies, which
are latencies too."""
_SMALL_NBYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of ``among`` figures, and the last value that is still one of them."""

    middle: float
    bound: float
    among: int


def spread(kind: Kind, values: Sequence[float]) -> Spread:
    """Of at least one value."""
    lower_is_better = kind.unit == "ns"
    middle = statistics.median_low(values) if lower_is_better else statistics.median_high(values)
    mad = statistics.median_low([abs(value - middle) for value in values])
    away = max(FACTOR * _NORMAL * mad, floor(kind) * middle)
    return Spread(middle, middle + away if lower_is_better else middle - away, len(values))


def floor(kind: Kind) -> float:
    """What figures of ``kind`` may differ by anyway, as a part of the middle one."""
    if kind.unit == "ns":
        return FLOOR_LATENCY
    return FLOOR_SMALL if kind.nbytes is not None and kind.nbytes < _SMALL_NBYTES else FLOOR


def judge(node: Node, figures: Iterable[Figure]) -> Iterator[Judgement]:
    """Of every kind that has peers: its outliers; where it has none, the worst of it, which is fine."""
    for kind, alike in by_kind(node, figures).items():
        usable = [figure for figure in alike if math.isfinite(figure.value) and figure.value > 0]
        if len(usable) < LEAST:
            continue
        found = spread(kind, [figure.value for figure in usable])
        judged = [_judged(kind, figure, found) for figure in usable]
        outliers = [one for one in judged if one.standing != "fine"]
        yield from sorted(outliers, key=lambda one: one.share) or [min(judged, key=lambda one: one.share)]


def _judged(kind: Kind, figure: Figure, found: Spread) -> Judgement:
    """Paths of a kind that nobody knows may well be different ones: nothing is certain there."""
    low = figure.misses(found.bound)
    beside = f"the middle of {found.among} such figures is {found.middle:.4g} {figure.unit}"
    text = f"{figure.told}; {beside} ({kind.place.text})"
    return Judgement(
        figure=figure, by="peers", standing="low" if low else "fine", topology=kind.place.text, among=found.among,
        certain=low and kind.place.kind != "unknown", against=found.middle, bound=found.bound,
        text=f"{text}, and {found.bound:.4g} the bound" if low else text,
    )  # fmt: skip
