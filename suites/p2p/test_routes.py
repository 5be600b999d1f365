"""Predicted against declared and measured: the way that PCIe peer traffic should take by the kernel's own rule.

The rule (drivers/pci/p2pdma.c) reads the switches' settings; it is what the hardware does with a request, whatever the
NVIDIA driver decides to try. In a guest the switches are the hypervisor's, and say nothing about the real way.
"""

from __future__ import annotations

import pytest

from dmaproof.cuda.copies import Transfer, copy_bandwidth
from dmaproof.evidence.fact import RouteSeen
from dmaproof.pci import route
from dmaproof.pci.route import Route, Topology
from dmaproof.pci.route_changes import changes
from dmaproof.triage.shortfall import SHORTFALL
from fixtures.ends import Pair
from fixtures.evidence import NoteEvidence
from fixtures.measure import Measure, reaches
from fixtures.state import Run
from fixtures.worker import Bench

NBYTES = 64 << 20


@pytest.mark.catches("acs")
@pytest.mark.requires(gpus=2)
def test_route_below_a_common_switch(both: Pair, run: Run, note_evidence: NoteEvidence) -> None:
    """Every route is kept as evidence. Peers that the rig declares under one switch must reach each other there."""
    predicted, topology = _predicted(both, run, note_evidence)
    switch = both.node.switch_above(both.source)
    if switch is None or switch != both.node.switch_above(both.target):
        return
    if predicted.outcome == "unknown":
        pytest.skip(predicted.reason)
    assert predicted.outcome == "bus", _story(predicted, topology)


@pytest.mark.catches("acs", "slower_than_host")
@pytest.mark.requires(gpus=2, peer=True)
def test_a_direct_route_is_fast(
    pair: Pair, run: Run, note_evidence: NoteEvidence, worker: Bench, measure: Measure
) -> None:
    """Where the prediction is that peers meet below the root complex, the rate is the link's, and no less than
    staging."""
    predicted, _ = _predicted(pair, run, note_evidence)
    if predicted.outcome != "bus":
        pytest.skip(f"no direct route is predicted: {predicted.outcome}")
    where = {"source": pair.source.name, "target": pair.target.name, "path": "ce", "direction": "one"}
    declared = pair.path.bandwidth_GBps if pair.path else None
    ends = pair.source.bdf, pair.target.bdf
    off, on = (
        worker.run(copy_bandwidth, transfers=[Transfer(*ends, "ce", NBYTES, peer=peer)]).measurements[0]
        for peer in (False, True)
    )
    measure(off, **where, peer=False, recorded=False)
    measure(on, **where, peer=True, declared=declared, recorded=False)
    told = f"{on.median:.1f} GB/s on a direct route ({predicted.reason})"
    assert reaches(on, declared, "ce"), f"{told}; the rig declares {declared} GB/s"
    assert on.median >= off.median * (1 - SHORTFALL), f"{told}; staged through the host {off.median:.1f} GB/s"


def _predicted(pair: Pair, run: Run, note_evidence: NoteEvidence) -> tuple[Route, Topology]:
    """The target's memory, the source's DMA; skips what does not go by PCIe, and what the node cannot see."""
    if pair.path is None or pair.path.kind != "pcie":
        pytest.skip("the rig declares another kind of path than PCIe")
    if pair.node.role == "guest":
        pytest.skip("a guest's switches are its hypervisor's: the real route is not to be seen")
    topology = route.look(run.nodes[pair.node.name].root)
    found = route.predict(topology, provider=pair.target.bdf, client=pair.source.bdf)
    note_evidence("pci", "route", f"{found.client} to {found.provider}: {found.outcome}; {found.reason}", _fact(found))
    return found, topology


def _fact(found: Route) -> RouteSeen:
    return RouteSeen(
        provider=found.provider,
        client=found.client,
        outcome=found.outcome,
        distance=found.distance,
        decided_by=found.decided_by,
        acs=found.acs,
    )


def _story(predicted: Route, topology: Topology) -> str:
    ways_out = "; ".join(one.what for one in changes(predicted, topology)[:1])
    return (
        f"{predicted.outcome}, though the rig declares one switch above both: {predicted.reason}; to change: {ways_out}"
    )
