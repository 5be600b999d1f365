"""One measured figure: its unit, its samples, and how it was taken."""

from __future__ import annotations

import statistics
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measurement:
    """``samples`` of ``name`` in ``unit`` (GB/s = 1e9 bytes/s; ns), taken by ``method``.

    ``name`` carries the unit as well (``bandwidth_GBps``, ``latency_ns``), for JUnit properties.
    """

    name: str
    unit: str
    samples: tuple[float, ...]
    method: str

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def spread(self) -> float:
        """Largest minus smallest sample, in ``unit``: of a handful of samples the range says more than a deviation."""
        return max(self.samples) - min(self.samples)
