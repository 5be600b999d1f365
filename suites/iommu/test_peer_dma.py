"""DMA of one endpoint into another's registers: it lands, or is refused, as the rig says; refusals are told.

No driver takes part, so nobody has mapped the peer's BAR: what a GPU's driver does wrong is here the whole test.
"""

from __future__ import annotations

import pytest

from dmaproof.endpoint.dma import PeerWrite, peer_write
from dmaproof.evidence.fact import PeerWriteSeen
from dmaproof.pci import address_map
from fixtures import refusals
from fixtures.ends import Peers
from fixtures.evidence import Expectations, NoteFact
from fixtures.refusals import Refusal
from fixtures.state import Run
from fixtures.worker import Bench


@pytest.mark.catches("silent_drop", "can_not_enable")
@pytest.mark.requires(kind="edu")
@pytest.mark.usefixtures("rested")
def test_peer_write(peers: Peers, worker: Bench, evidence: Expectations, note_fact: NoteFact, run: Run) -> None:
    """The owner's registers are the judge; where the write must be lost, the kernel must say who wanted to go where."""
    node, writer, owner = peers.node, peers.source.bdf, peers.target.bdf
    arrives = refusals.arrives(peers)
    if arrives is None:
        pytest.skip(f"the rig declares neither a domain type of {node.name} nor a path between the two")
    if not arrives:
        refusals.expect(evidence, node, writer)
    # Only where memory is within the writer's reach can it be given words to write: else its buffer is what it is.
    wrote = worker.run(peer_write, writer=writer, owner=owner, load=bool(refusals.passes(node)))
    note_fact("peer-write", _story(wrote), _seen(wrote))
    assert wrote.landed == arrives, f"the rig says that it {'arrives' if arrives else 'is refused'}: {_story(wrote)}"
    assert arrives or wrote.old_words == wrote.nwords, f"refused, and yet not without effect: {_story(wrote)}"
    if not arrives:
        wanted = Refusal(writer, "write", wrote.address, 4 * wrote.nwords, owner)
        addresses = address_map.of_sysfs(run.nodes[node.name].root)
        complaint = refusals.complaint(evidence.came(), wanted, node, addresses)
        assert complaint is None, complaint


def _seen(wrote: PeerWrite) -> PeerWriteSeen:
    return PeerWriteSeen(
        writer=wrote.writer,
        owner=wrote.owner,
        engine="edu",
        nbytes=4 * wrote.nwords,
        nwords=wrote.nwords,
        wrong_words=wrote.wrong_words,
        old_words=wrote.old_words,
        writer_wrong_words=None,
    )


def _story(wrote: PeerWrite) -> str:
    return (
        f"{wrote.writer} wrote {wrote.nwords} words to {wrote.address:#x}; {wrote.owner} holds {wrote.wrong_words} "
        f"wrong ones, {wrote.old_words} of them as before"
    )
