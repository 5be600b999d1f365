"""The kernel's own peer-to-peer DMA, from one drive's buffer to another drive: as `dmaproof route` predicts it.

The kernel allows or refuses it by the topology (drivers/pci/p2pdma.c). Where it allows it, the data must be right:
what the calls say is no proof.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from dmaproof.endpoint.p2pdma import PeerTransfers, Transfer, transfer
from dmaproof.errors import NodeError
from dmaproof.evidence.decode import decode_whole
from dmaproof.evidence.fact import PeerReadSeen, PeerWriteSeen
from dmaproof.evidence.kernel_log import since_boot
from dmaproof.pci import route
from dmaproof.pci.route import Route
from fixtures.ends import Peers
from fixtures.evidence import NoteEvidence, NoteFact
from fixtures.state import Run
from fixtures.worker import Bench


@pytest.mark.catches("silent_drop")
@pytest.mark.requires(kind="nvme")
@pytest.mark.usefixtures("rested")
def test_transfers(peers: Peers, worker: Bench, note_fact: NoteFact, note_evidence: NoteEvidence, run: Run) -> None:
    """``peers.source`` does the DMA (the kernel's client), in the buffer of ``peers.target`` (its provider)."""
    client, provider, root = peers.source.bdf, peers.target.bdf, run.nodes[peers.node.name].root
    predicted = route.predict(root, provider, client)
    note_evidence("pci", "route", f"route {client} to {provider}: {predicted.outcome}: {predicted.reason}")
    if predicted.outcome == "unknown":
        pytest.skip(f"what the kernel will make of it is unknown: {predicted.reason}")
    moved = worker.run(transfer, provider=provider, client=client)
    _note(note_fact, moved)
    if predicted.outcome == "unsupported":
        for way in (moved.peer_read, moved.peer_write):
            assert way.error is not None, f"{predicted.reason}; yet the kernel moved {way.claimed_nbytes} bytes"
    else:
        assert moved.peer_read.right, _story("read", moved, moved.peer_read, predicted)
        assert moved.peer_write.right, _story("written", moved, moved.peer_write, predicted)
    _agrees_with_kernel(root, predicted)


def _agrees_with_kernel(root: Path, predicted: Route) -> None:
    """The kernel prints its verdict when it first decides on two devices, and never again until the next boot: so its
    whole log is asked."""
    try:
        events = decode_whole(since_boot(root / "dev/kmsg")).events
    except NodeError as error:
        pytest.skip(f"data and calls are as predicted; the kernel's own verdict was not seen: {error}")
    told = [one for one in events if one.kind == "p2pdma" and one.bdf == predicted.client]
    of_pair = [one for one in told if predicted.provider in one.text]
    said = {one.event for one in of_pair}
    wanted = set[str | None]()
    if predicted.redirecting:
        wanted.add("acs-redirect")
    if predicted.outcome == "unsupported":
        wanted.add("not-supported")
    words = "; ".join(one.text for one in of_pair) or "nothing"
    assert said == wanted, f"predicted {predicted.outcome}: {predicted.reason}; the kernel says: {words}"


def _note(note_fact: NoteFact, moved: PeerTransfers) -> None:
    read, written = moved.peer_read, moved.peer_write
    note_fact(
        "peer-read",
        f"{moved.client} read {moved.provider}'s memory at {moved.address:#x}: {_told(read)}",
        PeerReadSeen(
            reader=moved.client, owner=moved.provider, engine="nvme", nbytes=moved.nbytes, nwords=read.nwords,
            wrong_words=read.wrong_words, claimed_nbytes=read.claimed_nbytes,
        ),
    )  # fmt: skip
    note_fact(
        "peer-write",
        f"{moved.client} wrote {moved.provider}'s memory at {moved.address:#x}: {_told(written)}",
        PeerWriteSeen(
            writer=moved.client, owner=moved.provider, engine="nvme", nbytes=moved.nbytes, nwords=written.nwords,
            wrong_words=written.wrong_words, old_words=written.old_words, writer_wrong_words=None,
            claimed_nbytes=written.claimed_nbytes,
        ),
    )  # fmt: skip


def _told(way: Transfer) -> str:
    said = f"the call says {way.error}" if way.error else f"the call claims {way.claimed_nbytes} bytes"
    return f"{said}, {way.wrong_words} of {way.nwords} words are wrong"


def _story(verb: str, moved: PeerTransfers, way: Transfer, predicted: Route) -> str:
    what = f"{moved.nbytes} bytes {verb} by {moved.client} in the memory of {moved.provider}"
    return f"{what}: {_told(way)} ({predicted.reason})"
