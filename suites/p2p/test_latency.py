"""Latency of every ordered pair: a small copy by the copy engine, a dependent load by a kernel."""

from __future__ import annotations

import pytest

from dmaproof.cuda.copies import Engine, copy_latency, load_latency
from fixtures.ends import Pair
from fixtures.measure import Measure, reaches
from fixtures.worker import Bench


@pytest.mark.catches("mailbox")
@pytest.mark.requires(gpus=2, peer=True)
@pytest.mark.parametrize("engine", ["ce", "sm"])
def test_peer_latency(pair: Pair, engine: Engine, worker: Bench, measure: Measure) -> None:
    """By kernel, the source reads the target's memory: the request travels the declared way and the data comes back."""
    ends = pair.source.bdf, pair.target.bdf
    if engine == "ce":
        measured = worker.run(copy_latency, source=ends[0], target=ends[1]).measurement
    else:
        measured = worker.run(load_latency, reader=ends[0], owner=ends[1]).measurement
    declared = pair.path.latency_ns if pair.path and engine == "sm" else None
    where = {"source": pair.source.name, "target": pair.target.name, "path": engine}
    measure(measured, **where, peer=True, declared=declared)
    assert reaches(measured, declared, engine), f"{measured.median:.0f} ns, declared {declared} ns"
