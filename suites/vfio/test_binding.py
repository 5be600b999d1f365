"""A function is taken from its driver and given back, also by the start that follows a crash."""

from __future__ import annotations

from dmaproof.endpoint.assigned.rebind import bind_and_put_back, crash_and_put_back
from fixtures.ends import Engine
from fixtures.offers import claimed
from fixtures.vfio import need_iommu
from fixtures.worker import Bench


def test_bind_and_put_back(endpoint: Engine, worker: Bench) -> None:
    need_iommu(endpoint.node)
    with claimed(endpoint.node, "vfio"):
        seen = worker.run(bind_and_put_back, bdf=endpoint.endpoint.bdf)
    assert seen.inside.driver == "vfio-pci"
    assert seen.after == seen.before


def test_put_back_after_a_crash(endpoint: Engine, worker: Bench) -> None:
    """A process that has the function is killed. While it lived, nobody could take the function or put it back."""
    need_iommu(endpoint.node)
    with claimed(endpoint.node, "vfio"):
        seen = worker.run(crash_and_put_back, bdf=endpoint.endpoint.bdf)
    assert "is bound by another run that is still alive" in seen.refused
    assert seen.alive.driver == "vfio-pci"
    assert seen.dead.driver == "vfio-pci"
    assert seen.replayed >= 1
    assert seen.after == seen.before
