"""BARs in a peer's address space: exported as dma-bufs, used, and taken away while in use.

An export is revoked when its memory cannot be reached (drivers/vfio/pci/vfio_pci_dmabuf.c); what was mapped of it does
not come back with it (drivers/iommu/iommufd/pages.c).
"""

from __future__ import annotations

import pytest

from dmaproof.endpoint.assigned.peer import Way, bar_as_memory, exports, peer_dma
from dmaproof.endpoint.assigned.revoke import Cause, close, revoke
from dmaproof.vfio.space import Backend
from fixtures import refusals
from fixtures.ends import Engine, Peers
from fixtures.evidence import Expectations, NoteEvidence
from fixtures.offers import claimed
from fixtures.vfio import DMABUF, NEEDS, need_iommu
from fixtures.worker import Bench

OTHERS = ("nvme", "igb")
"""Targets that are no engines of ours, and have power management."""


@pytest.mark.catches("sparse_bar")
def test_exports(endpoint: Engine, worker: Bench) -> None:
    """Every BAR whole, and the first in parts: of whole pages inside the BAR, or not at all."""
    need_iommu(endpoint.node)
    with claimed(endpoint.node, *DMABUF):
        seen = worker.run(exports, bdf=endpoint.endpoint.bdf)
    assert seen.bars, f"{endpoint.endpoint.bdf} has no BAR that could be exported"
    for bar in seen.bars:
        assert bar.nbytes == bar.bar_nbytes
        assert bar.imported.error is None, f"BAR {bar.index}: {bar.imported.error}"
    told = {one.question: one.error for one in seen.answers}
    refused = {question for question, error in told.items() if error is not None}
    assert refused == {*REFUSED, "two parts"} & {*told}, told
    assert all(told[question] == error for question, error in REFUSED.items()), told
    assert told["two parts"] == "import ENOTSUP", "iommufd took a dma-buf of several ranges: this is new"


REFUSED = {
    "no part": "export EINVAL",
    "an empty part": "export EINVAL",
    "half a page": "export EINVAL",
    "at half a page": "export EINVAL",
    "past the end": "export EINVAL",
    "behind the end": "export EINVAL",
    "no such BAR": "export ENODEV",
}


@pytest.mark.catches("bar_efault")
@pytest.mark.requires(kind="edu")
@pytest.mark.parametrize("backend", ["type1v2", "iommufd"])
def test_bar_as_memory(peers: Peers, backend: Backend, worker: Bench, note_evidence: NoteEvidence) -> None:
    """A process's own mapping of a BAR, given to a peer: type1 takes it; for iommufd it is a property of the kernel:
    EFAULT on mainline, taken where there is a workaround for PFN maps. It is kept as evidence."""
    need_iommu(peers.node)
    with claimed(peers.node, *NEEDS[backend]):
        answer = worker.run(bar_as_memory, source=peers.source.bdf, target=peers.target.bdf, backend=backend)
    note_evidence("vfio", "bar-as-memory", f"{backend} says {answer.error or 'yes'} to mapping a BAR's mmap")
    assert answer.error in ((None,) if backend == "type1v2" else (None, "EFAULT"))


@pytest.mark.catches("dmabuf_raw_bar")
@pytest.mark.requires(kind="edu")
@pytest.mark.parametrize(("backend", "way"), [("type1v2", "bar"), ("iommufd", "dma-buf")])
def test_peer_dma(peers: Peers, backend: Backend, way: Way, worker: Bench) -> None:
    _check_peer_dma(peers, backend, way, worker, writable=True)


@pytest.mark.requires(kind="edu", targets=OTHERS)
@pytest.mark.parametrize(("backend", "way"), [("type1v2", "bar"), ("iommufd", "dma-buf")])
def test_peer_dma_to_others(peers: Peers, backend: Backend, way: Way, worker: Bench) -> None:
    _check_peer_dma(peers, backend, way, worker, writable=False)


def _check_peer_dma(peers: Peers, backend: Backend, way: Way, worker: Bench, writable: bool) -> None:
    need_iommu(peers.node)
    needed = DMABUF if way == "dma-buf" else NEEDS[backend]
    source, target = peers.source.bdf, peers.target.bdf
    with claimed(peers.node, *needed):
        seen = worker.run(peer_dma, source=source, target=target, way=way, backend=backend, writable=writable)
    assert seen.read, f"{source} did not read what the CPU reads in BAR0 of {target}"
    assert seen.wrote in (True, None), f"{target} does not hold what {source} wrote into its BAR0"


@pytest.mark.catches("dmabuf_revoke")
@pytest.mark.requires(kind="edu")
@pytest.mark.usefixtures("rested")
@pytest.mark.parametrize("cause", ["memory-decode", "reset", "low-power"])
def test_revoke(peers: Peers, cause: Cause, worker: Bench, evidence: Expectations) -> None:
    _check_revoke(peers, cause, worker, evidence, writable=True)


@pytest.mark.requires(kind="edu", targets=OTHERS)
@pytest.mark.usefixtures("rested")
@pytest.mark.parametrize("cause", ["memory-decode", "reset", "d3hot", "low-power"])
def test_revoke_of_others(peers: Peers, cause: Cause, worker: Bench, evidence: Expectations) -> None:
    _check_revoke(peers, cause, worker, evidence, writable=False)


def _check_revoke(peers: Peers, cause: Cause, worker: Bench, evidence: Expectations, writable: bool) -> None:
    need_iommu(peers.node)
    refusals.expect(evidence, peers.node, peers.source.bdf)
    with claimed(peers.node, *DMABUF):
        seen = worker.run(revoke, source=peers.source.bdf, target=peers.target.bdf, cause=cause, writable=writable)
    assert seen.before.works, "the dma-buf did not work before it was revoked"
    if seen.mapping is not None:
        assert seen.mapping.error == "ENODEV", f"a revoked dma-buf could be mapped: {seen.mapping}"
    assert not seen.arrived, "a DMA by a revoked mapping arrived"
    assert not seen.after, "a mapping that was revoked works again by itself"
    assert seen.unmapped_nbytes > 0
    assert seen.again.works, "mapped anew, the dma-buf does not work"


@pytest.mark.requires(kind="edu")
@pytest.mark.usefixtures("rested")
def test_close(peers: Peers, worker: Bench, evidence: Expectations) -> None:
    _check_close(peers, worker, evidence, writable=True)


@pytest.mark.requires(kind="edu", targets=OTHERS)
@pytest.mark.usefixtures("rested")
def test_close_of_others(peers: Peers, worker: Bench, evidence: Expectations) -> None:
    _check_close(peers, worker, evidence, writable=False)


def _check_close(peers: Peers, worker: Bench, evidence: Expectations, writable: bool) -> None:
    """The exporter goes; its dma-buf is dead for good, also when the device is opened again."""
    need_iommu(peers.node)
    refusals.expect(evidence, peers.node, peers.source.bdf)
    with claimed(peers.node, *DMABUF):
        seen = worker.run(close, source=peers.source.bdf, target=peers.target.bdf, writable=writable)
    assert seen.before.works
    assert not seen.arrived, "a DMA to a device that was closed arrived"
    assert (seen.mapping.error, seen.again.error) == ("ENODEV", "ENODEV")
    assert seen.anew.works, "a fresh export does not work"
