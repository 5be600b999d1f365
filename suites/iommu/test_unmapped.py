"""DMA to addresses that nobody has mapped for the endpoint: memory, and nothing at all.

In a translated domain both are refused, and the line names requester and address. In passthrough memory is simply
written, and an address without anything behind it is silent: that is what the mode means.
"""

from __future__ import annotations

import pytest

from dmaproof.endpoint.dma import memory_copy, memory_read, memory_write, write_nowhere
from dmaproof.pci import address_map
from dmaproof.pci.addresses import AddressMap
from dmaproof.rig.model import Node
from fixtures import refusals
from fixtures.ends import Engine
from fixtures.evidence import Expectations
from fixtures.refusals import Refusal
from fixtures.state import Run
from fixtures.worker import Bench

pytestmark = [pytest.mark.requires(kind="edu"), pytest.mark.usefixtures("rested")]


@pytest.fixture
def passes(endpoint: Engine) -> bool:
    """Whether DMA that nobody has mapped passes there."""
    known = refusals.passes(endpoint.node)
    if known is None:
        pytest.skip(f"the rig declares no domain type of {endpoint.node.name}")
    return known


@pytest.fixture
def addresses(endpoint: Engine, run: Run) -> AddressMap:
    return address_map.of_sysfs(run.nodes[endpoint.node.name].root)


def test_write_to_memory(
    endpoint: Engine, passes: bool, addresses: AddressMap, worker: Bench, evidence: Expectations
) -> None:
    """Of a page that the process has locked, by its physical address: the CPU looks whether it changed."""
    if not passes:
        refusals.expect(evidence, endpoint.node, endpoint.endpoint.bdf)
    wrote = worker.run(memory_write, writer=endpoint.endpoint.bdf)
    told = f"{wrote.changed_nbytes} of {wrote.nbytes} bytes at {wrote.address:#x} changed"
    assert (wrote.changed_nbytes > 0) == passes, told
    _check_told(endpoint.node, evidence, addresses, passes, Refusal(wrote.writer, "write", wrote.address, wrote.nbytes))


def test_read_of_memory(
    endpoint: Engine, passes: bool, addresses: AddressMap, worker: Bench, evidence: Expectations
) -> None:
    """Refused, a read returns something nevertheless: only the kernel's line tells. ``test_copy_of_memory`` shows that
    what passes is right."""
    if not passes and not refusals.logs_rightly(endpoint.node):
        pytest.skip("QEMU's AMD-Vi (11.1) has writes logged, if as nobody's, and reads not at all: nothing would tell")
    if not passes:
        refusals.expect(evidence, endpoint.node, endpoint.endpoint.bdf)
    read = worker.run(memory_read, reader=endpoint.endpoint.bdf)
    _check_told(endpoint.node, evidence, addresses, passes, Refusal(read.reader, "read", read.address, read.nbytes))


def test_copy_of_memory(endpoint: Engine, passes: bool, worker: Bench) -> None:
    """Out of one page and into another, each by its physical address: every byte arrives."""
    if not passes:
        pytest.skip("memory is not within reach: domains are translated, and nobody has mapped it")
    copied = worker.run(memory_copy, engine=endpoint.endpoint.bdf)
    assert copied.wrong_nbytes == 0, f"{copied.wrong_nbytes} of {copied.nbytes} bytes at {copied.target:#x} are wrong"


def test_write_to_nowhere(
    endpoint: Engine, passes: bool, addresses: AddressMap, worker: Bench, evidence: Expectations, run: Run
) -> None:
    """Of a guest's function too: stage 2 holds what the guest has, and not more."""
    nowhere = refusals.nowhere(addresses)
    if nowhere is None:
        pytest.skip(f"where nothing is cannot be told: {'; '.join(addresses.unseen)}")
    over = refusals.over(endpoint.node, run.rig)
    passes = passes and refusals.passes(over) is not False
    if not passes:
        refusals.expect(evidence, over, endpoint.endpoint.bdf)
    wrote = worker.run(write_nowhere, writer=endpoint.endpoint.bdf, address=nowhere)
    _check_told(over, evidence, addresses, passes, Refusal(wrote.writer, "write", nowhere, wrote.nbytes))


def _check_told(node: Node, evidence: Expectations, addresses: AddressMap, passes: bool, wanted: Refusal) -> None:
    """Where it passed, the fixtures see to it that nothing was logged."""
    if not passes:
        complaint = refusals.complaint(evidence.came(), wanted, node, addresses)
        assert complaint is None, complaint
