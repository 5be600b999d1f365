"""Rates and latencies that miss what the rig declares, and which links they went over."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import Measured
from dmaproof.rig.model import HOST, PathKind
from dmaproof.triage.verdict import Case

SHORTFALL = 0.10
"""A declared rate, which is the copy engine's, counts as reached within this fraction."""
SHORTFALL_SM = 0.25
"""A kernel's copies share the link with their own requests, and reach less of it (C2C most of all)."""
_UNITS = ("GB/s", "ns")
EXCESS = 0.25
"""A load may take this much longer than the rig declares."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A bandwidth (GB/s) or latency (ns) that was measured, and the kind of path that it took."""

    evidence: Evidence
    measured: Measured
    kind: PathKind

    @property
    def is_short(self) -> bool:
        """Whether it misses what is declared: too low a bandwidth, too long a latency."""
        one = self.measured
        return one.declared is not None and misses(one.value, one.declared, one.unit, one.engine)

    @property
    def ends(self) -> frozenset[str]:
        return frozenset((self.measured.source, self.measured.target))

    @property
    def told(self) -> str:
        """``0000:04:00.0 to host by ce: 6.6 of 26.3 GB/s declared``."""
        one = self.measured
        of = f" of {one.declared:g} {one.unit} declared" if one.declared is not None else f" {one.unit}"
        return f"{one.source} to {one.target}{f' by {one.engine}' if one.engine else ''}: {one.value:.1f}{of}"


def tolerance(engine: str | None) -> float:
    return SHORTFALL_SM if engine == "sm" else SHORTFALL


def bound(declared: float, unit: str, engine: str | None) -> float:
    """The last figure that counts as what is declared: a rate (GB/s) may be that much lower, a latency (ns) longer."""
    return declared * (1 + EXCESS) if unit == "ns" else declared * (1 - tolerance(engine))


def misses(value: float, declared: float, unit: str, engine: str | None) -> bool:
    last = bound(declared, unit, engine)
    return value > last if unit == "ns" else value < last


def rates(case: Case) -> tuple[Rate, ...]:
    """Every bandwidth and latency that the test measured."""
    return tuple(Rate(one, fact, _kind(case, fact)) for one, fact in case.facts(Measured) if fact.unit in _UNITS)


def over(case: Case, gpus: Collection[str], *kinds: PathKind) -> tuple[Rate, ...]:
    """The bandwidths that ``gpus`` took part in over paths of ``kinds``. Bytes that never leave a GPU go over none."""
    return tuple(
        rate for rate in rates(case) if len(rate.ends) > 1 and rate.kind in kinds and rate.ends & frozenset(gpus)
    )


def short_over(case: Case, gpus: Collection[str], *kinds: PathKind) -> tuple[Rate, ...]:
    return tuple(rate for rate in over(case, gpus, *kinds) if rate.is_short)


def _kind(case: Case, measured: Measured) -> PathKind:
    """What the rig declares between the two ends; staging through the host goes by the GPUs' own links to it."""
    names = {gpu.bdf: gpu.name for gpu in case.node.gpus} | {HOST: HOST}
    source, target = names.get(measured.source), names.get(measured.target)
    if source is None or target is None:
        return "unknown"
    if measured.peer is False and HOST not in (source, target):
        target = HOST
    path = case.node.path_between(source, target)
    return path.kind if path is not None else "unknown"
