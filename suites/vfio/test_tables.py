"""The IOMMU's own page tables hold what was mapped, no less and no more."""

from __future__ import annotations

import pytest

from dmaproof.endpoint.assigned.tables import Comparison, memory_tables, peer_tables
from dmaproof.rig.model import Node
from dmaproof.vfio.space import Backend
from fixtures.ends import Engine, Peers
from fixtures.offers import claimed
from fixtures.vfio import DMABUF, NEEDS
from fixtures.worker import Bench

pytestmark = pytest.mark.requires(kind="edu")


@pytest.mark.parametrize("backend", ["type1v2", "iommufd"])
def test_memory(endpoint: Engine, backend: Backend, worker: Bench) -> None:
    _need_vtd(endpoint.node)
    with claimed(endpoint.node, "iommu-debugfs", *NEEDS[backend]):
        _check(worker.run(memory_tables, bdf=endpoint.endpoint.bdf, backend=backend))


def test_peer_bar(peers: Peers, worker: Bench) -> None:
    _need_vtd(peers.node)
    with claimed(peers.node, "iommu-debugfs", *DMABUF):
        _check(worker.run(peer_tables, source=peers.source.bdf, target=peers.target.bdf))


def _need_vtd(node: Node) -> None:
    if node.iommu.family != "vtd":
        pytest.skip(f"only the VT-d driver shows its tables; {node.name} has {node.iommu.family}")


def _check(seen: Comparison) -> None:
    assert not seen.missing, f"mapped, and not in the tables: {seen.missing}"
    assert not seen.surplus, f"in the tables, and never mapped: {seen.surplus}"
    assert not seen.stale, f"still in the tables after the unmap: {seen.stale}"
