"""Workload: what a machine's kernel says of its functions at this moment, for one that is seen from outside.

The copy of sysfs that is had of such a machine (dmaproof.guest.agent) is as of its boot: it would call a function that
fell off the bus since well, and its counters at rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dmaproof.evidence import counters
from dmaproof.evidence.counters import Key, Readings
from dmaproof.evidence.fact import Counter
from dmaproof.pci import config
from dmaproof.pci.config import State


@dataclass(frozen=True, slots=True)
class Count:
    """As dmaproof.evidence.counters.Key has it."""

    bdf: str
    counter: Counter
    which: str | None
    count: int


@dataclass(frozen=True, slots=True)
class Look:
    """Whether the functions asked for answer, and the AER counters of those and of the ports above them."""

    states: tuple[tuple[str, State], ...]
    counts: tuple[Count, ...]

    @property
    def aer(self) -> Readings:
        return {Key(one.bdf, one.counter, one.which): one.count for one in self.counts}

    @property
    def by_bdf(self) -> Mapping[str, State]:
        return dict(self.states)


def look(bdfs: tuple[str, ...], ports: tuple[str, ...], root: str = "/") -> Look:
    """The state of ``bdfs``; AER counters of these and of ``ports``."""
    read = counters.read_aer(Path(root), dict.fromkeys((*bdfs, *ports)))
    return Look(
        states=tuple((bdf, config.state(Path(root), bdf)) for bdf in bdfs),
        counts=tuple(Count(key.bdf, key.counter, key.which, count) for key, count in read.items()),
    )
