"""VFIO without an IOMMU: refused unless the kernel is told to allow it; then it works, and taints."""

from __future__ import annotations

import pytest

from dmaproof.endpoint.assigned.unprotected import refused, unprotected
from dmaproof.rig.model import Node
from fixtures.ends import Engine
from fixtures.evidence import NoteEvidence
from fixtures.offers import claimed
from fixtures.worker import Bench

pytestmark = pytest.mark.requires(kind="edu")


def test_refused_unless_allowed(endpoint: Engine, worker: Bench) -> None:
    _need_no_iommu(endpoint.node)
    with claimed(endpoint.node, "vfio", "vfio-noiommu"):
        seen = worker.run(refused, bdf=endpoint.endpoint.bdf)
    assert seen.reason is not None, "a function without an IOMMU was given to user space, although nobody allowed it"
    assert "did not take" in seen.reason


def test_works_and_taints(endpoint: Engine, worker: Bench, note_evidence: NoteEvidence) -> None:
    """DMA by physical addresses. That iommufd takes such functions is new, if it does: it is kept as evidence."""
    _need_no_iommu(endpoint.node)
    with claimed(endpoint.node, "vfio", "vfio-noiommu"):
        seen = worker.run(unprotected, bdf=endpoint.endpoint.bdf)
    note_evidence("vfio", "noiommu-cdev", f"a cdev of a function without an IOMMU: {seen.cdev}")
    assert seen.group.startswith("noiommu-")
    assert seen.tainted
    assert (seen.read, seen.wrote) == (True, True)


def _need_no_iommu(node: Node) -> None:
    if node.iommu.family != "none":
        pytest.skip(f"{node.name} has an IOMMU ({node.iommu.family}): no-IOMMU mode is for functions without one")
