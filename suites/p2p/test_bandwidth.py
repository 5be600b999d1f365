"""Copy bandwidth of every ordered pair, one way and both ways, by copy engine and by kernel, against staging."""

from __future__ import annotations

import pytest

from dmaproof.cuda.copies import Engine, Transfer, copy_bandwidth
from dmaproof.triage.shortfall import SHORTFALL
from fixtures.ends import End, Pair
from fixtures.measure import Measure, reaches
from fixtures.worker import Bench

NBYTES = 64 << 20
LOCAL_NBYTES = 512 << 20
"""Many times what a GPU's cache holds."""
ENGINES = pytest.mark.parametrize("engine", ["ce", "sm"])
ASYMMETRY = 0.10
"""The two directions of a pair may differ by this fraction, unless the rig declares different rates."""


@pytest.mark.catches("mailbox", "silent_drop", "acs", "spin_timeout")
@pytest.mark.requires(gpus=2, peer=True)
@ENGINES
def test_peer_copy_reaches_link_rate(pair: Pair, engine: Engine, worker: Bench, measure: Measure) -> None:
    transfer = Transfer(pair.source.bdf, pair.target.bdf, engine, NBYTES)
    (measured,) = worker.run(copy_bandwidth, transfers=[transfer]).measurements
    where = {"source": pair.source.name, "target": pair.target.name, "path": engine}
    declared = pair.path.bandwidth_GBps if pair.path else None
    measure(measured, **where, peer=True, direction="one", declared=declared)
    assert reaches(measured, declared, engine), f"{measured.median:.1f} GB/s of {declared} GB/s declared"


@pytest.mark.catches("asymmetry")
@pytest.mark.requires(gpus=2, peer=True)
@ENGINES
def test_both_directions_at_once(both: Pair, engine: Engine, worker: Bench, measure: Measure) -> None:
    there = Transfer(both.source.bdf, both.target.bdf, engine, NBYTES)
    back = Transfer(both.target.bdf, both.source.bdf, engine, NBYTES)
    out, home = worker.run(copy_bandwidth, transfers=[there, back]).measurements
    for measured, ends in ((out, (both.source, both.target)), (home, (both.target, both.source))):
        source, target = ends
        measure(measured, source=source.name, target=target.name, path=engine, peer=True, direction="both")
    slower, faster = sorted((out.median, home.median))
    if _is_symmetric(both):
        assert slower >= faster * (1 - ASYMMETRY), f"one direction {slower:.1f} GB/s, the other {faster:.1f} GB/s"


def _is_symmetric(both: Pair) -> bool:
    """Equal rates are declared, or none over NVLink, whose directions are equal. PCIe across sockets need not be."""
    there, back = both.path, both.reversed().path
    if there is None or back is None:
        return False
    if there.bandwidth_GBps is None or back.bandwidth_GBps is None:
        return there.kind == back.kind == "nvlink"
    return there.bandwidth_GBps == back.bandwidth_GBps


@pytest.mark.catches("slower_than_host", "acs")
@pytest.mark.requires(gpus=2, peer=True)
def test_peer_is_not_slower_than_staging(pair: Pair, worker: Bench, measure: Measure) -> None:
    ends = pair.source.bdf, pair.target.bdf
    off, on = (
        worker.run(copy_bandwidth, transfers=[Transfer(*ends, "ce", NBYTES, peer=peer)]).measurements[0]
        for peer in (False, True)
    )
    where = {"source": pair.source.name, "target": pair.target.name, "path": "ce", "direction": "one"}
    measure(off, **where, peer=False)
    measure(on, **where, peer=True, declared=pair.path.bandwidth_GBps if pair.path else None, recorded=False)
    slowest = off.median * (1 - SHORTFALL)
    assert on.median >= slowest, f"peer access {on.median:.1f} GB/s, staged through the host {off.median:.1f} GB/s"


@pytest.mark.requires(gpus=1)
@pytest.mark.parametrize("way", ["h2d", "d2h"])
@ENGINES
def test_host_copy_reaches_link_rate(gpu: End, way: str, engine: Engine, worker: Bench, measure: Measure) -> None:
    names = ("host", gpu.gpu.name) if way == "h2d" else (gpu.gpu.name, "host")
    ends = ("host", gpu.gpu.bdf) if way == "h2d" else (gpu.gpu.bdf, "host")
    (measured,) = worker.run(copy_bandwidth, transfers=[Transfer(*ends, engine, NBYTES)]).measurements
    path = gpu.node.path_between(*names)
    declared = path.bandwidth_GBps if path else None
    measure(measured, source=names[0], target=names[1], path=engine, direction="one", declared=declared)
    assert reaches(measured, declared, engine), f"{measured.median:.1f} GB/s of {declared} GB/s declared"


@pytest.mark.requires(gpus=1)
@ENGINES
def test_local_copy(gpu: End, engine: Engine, worker: Bench, measure: Measure) -> None:
    """Within one GPU's memory; bytes counted once, as nvbandwidth's device_local_copy."""
    transfer = Transfer(gpu.gpu.bdf, gpu.gpu.bdf, engine, LOCAL_NBYTES)
    (measured,) = worker.run(copy_bandwidth, transfers=[transfer]).measurements
    path = gpu.node.path_between(gpu.gpu.name, gpu.gpu.name)
    declared = path.bandwidth_GBps if path else None
    measure(measured, source=gpu.gpu.name, target=gpu.gpu.name, path=engine, direction="one", declared=declared)
    assert reaches(measured, declared, engine), f"{measured.median:.1f} GB/s of {declared} GB/s declared"
