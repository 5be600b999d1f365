"""What the kernel says of a refusal, against what the emulator itself saw: two witnesses that share no code.

The kernel's line goes by a queue or a register that may be full, a rate limit and a driver; the emulator's event by
none of them. Where the mode lets DMA pass, the emulator must have refused nothing at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dmaproof.endpoint.dma import memory_read, peer_write
from dmaproof.evidence.event import Event
from dmaproof.pci.addresses import PAGE_NBYTES
from dmaproof.rig.model import Node
from fixtures import emulator as emulators
from fixtures import refusals
from fixtures.emulator import Emulator
from fixtures.ends import Engine, Peers
from fixtures.evidence import Expectations
from fixtures.refusals import Refusal
from fixtures.worker import Bench

pytestmark = [pytest.mark.requires(kind="edu"), pytest.mark.usefixtures("rested")]


def test_read_of_memory(endpoint: Engine, emulator: Emulator, worker: Bench, evidence: Expectations) -> None:
    """Also where the kernel does not hear of reads: the emulator knows what it refused."""
    node, reader = endpoint.node, endpoint.endpoint.bdf
    passes = refusals.passes(node)
    if passes is None:
        pytest.skip(f"the rig declares no domain type of {node.name}")
    refused = not passes
    if refused:
        refusals.expect(evidence, node, reader, "read")
    read = worker.run(memory_read, reader=reader)
    _agree(emulator, evidence, node, Refusal(reader, "read", read.address, read.nbytes), refused)


def test_peer_write(peers: Peers, emulator: Emulator, worker: Bench, evidence: Expectations) -> None:
    """QEMU sends every DMA through the requester's IOMMU, also between ports of one switch: what does not arrive, that
    has refused."""
    node, writer = peers.node, peers.source.bdf
    arrives = refusals.arrives(peers)
    if arrives is None:
        pytest.skip(f"the rig declares neither a domain type of {node.name} nor a path between the two")
    refused = not arrives
    if refused:
        refusals.expect(evidence, node, writer)
    wrote = worker.run(peer_write, writer=writer, owner=peers.target.bdf, load=bool(refusals.passes(node)))
    _agree(emulator, evidence, node, Refusal(writer, "write", wrote.address, 4 * wrote.nwords), refused)


def _agree(emulator: Emulator, evidence: Expectations, node: Node, wanted: Refusal, refused: bool) -> None:
    kernels = evidence.came() if refused else ()
    events = emulator.refused()
    if not refused:
        assert not events, f"nothing was to be refused: {events[0].text}"
        return
    complaint = emulators.complaint(events, wanted)
    assert complaint is None, complaint
    unknown = _unknown(kernels, events) if refusals.logs_rightly(node) else []
    assert not unknown, f"the emulator refused nothing there: {unknown[0].text}"


def _unknown(kernels: Sequence[Event], events: Sequence[Event]) -> list[Event]:
    """The kernel's faults that are none of the emulator's: by page, which is all that VT-d's tell."""
    pages = {one.address // PAGE_NBYTES for one in events if one.address is not None}
    told = (one for one in kernels if one.kind == "iommu-fault" and one.address is not None)
    return [one for one in told if one.address is not None and one.address // PAGE_NBYTES not in pages]
