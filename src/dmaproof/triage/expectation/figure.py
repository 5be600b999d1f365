"""A figure as an expectation sees it, and the judgement on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from dmaproof.rig.model import HOST

By = Literal["declared", "physical", "baseline", "peers"]
Standing = Literal["fine", "low", "high"]
Reason = Literal[
    "degraded-link", "wrong-numa-node", "redirected-route", "throttling", "wrong-measurement", "unexplained"
]
DEVICE_CLOCK = "device events"
"""What the method of a figure says that CUDA events have timed."""
UNITS = ("GB/s", "ns")
"""Only rates and latencies have peers and physics; counts and shares are their own tests' business."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A PCIe link as it was seen: what it trained to, and what both its ends offer. Generation 5 is 32 GT/s."""

    generation: int | None = None
    width: int | None = None
    offered_generation: int | None = None
    offered_width: int | None = None

    def __str__(self) -> str:
        return (
            f"generation {self.generation} x{self.width} of generation {self.offered_generation} x{self.offered_width}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured figure. ``source`` and ``target`` are names of GPUs or ``host``; ``value`` is the median of
    ``samples``, in ``unit``. ``trained`` has the PCIe links that it went over, by the name of GPU or switch, as they
    were seen right after it was taken (a link at rest trains down)."""

    test: str
    node: str
    name: str
    unit: str
    value: float
    samples: tuple[float, ...]
    source: str
    target: str
    engine: str | None = None
    peer: bool | None = None
    direction: str | None = None
    case: str | None = None
    nbytes: int | None = None
    memory: str | None = None
    method: str = ""
    trained: Mapping[str, Trained] = field(default_factory=dict)

    @property
    def by_device_clock(self) -> bool:
        """Whether the device timed it. By the CPU's clock a figure is as much the scheduler's as the link's."""
        return DEVICE_CLOCK in self.method

    @property
    def lower_is_better(self) -> bool:
        return self.unit == "ns"

    @property
    def best(self) -> float:
        """The best sample: where even that one is bad, no single sample was at fault."""
        samples = self.samples or (self.value,)
        return min(samples) if self.lower_is_better else max(samples)

    def misses(self, bound: float) -> bool:
        """Whether even its best sample is worse than ``bound``."""
        return self.best > bound if self.lower_is_better else self.best < bound

    @property
    def ends(self) -> tuple[str, str]:
        return self.source, self.target

    @property
    def gpus(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(end for end in self.ends if end != HOST))

    @property
    def is_staged(self) -> bool:
        """Between two GPUs, through the host's memory."""
        return self.peer is False and len(self.gpus) == 2

    @property
    def told(self) -> str:
        """``gpu0 to gpu3 by ce, both ways: 198.2 GB/s``."""
        engine = f" by {self.engine}" if self.engine else ""
        ways = ", both ways" if self.direction == "both" else ""
        staged = ", staged through the host" if self.is_staged else ""
        return f"{self.source} to {self.target}{engine}{staged}{ways}: {self.value:.4g} {self.unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """``figure`` held ``by`` one standard. ``against`` is the standard's own figure (the link's rate, the median of the
    baseline or of the others), ``bound`` the last value that is still fine, both in the figure's unit; ``among`` how
    many figures the standard rests on. ``certain``: a test may fail on it. ``text`` is one sentence; ``reason`` is
    empty for a figure that is fine, and ``looked_at`` what a reason was looked for in."""

    figure: Figure
    by: By
    standing: Standing
    against: float
    bound: float
    topology: str
    text: str
    among: int = 0
    certain: bool = False
    reason: Reason | Literal[""] = ""
    looked_at: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """How good the figure is beside the standard's: 1 as good, less if worse, whichever way is better."""
        if self.figure.value <= 0 or self.against <= 0:
            return 0.0
        share = self.figure.value / self.against
        return 1 / share if self.figure.lower_is_better else share
