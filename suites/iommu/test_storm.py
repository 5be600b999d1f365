"""Ten thousand refused DMAs in a second: nothing hangs, and what the kernel does not print it accounts for."""

from __future__ import annotations

import time

import pytest

from dmaproof.endpoint.storm import storm
from dmaproof.evidence.evidence import Evidence
from dmaproof.pci import address_map
from dmaproof.pci.addresses import PAGE_NBYTES
from fixtures import refusals
from fixtures.ends import Engine
from fixtures.evidence import Expectations, NoteEvidence
from fixtures.state import Run
from fixtures.worker import Bench

_COUNT, _NPAGES = 10_000, 16
_INTERVAL_S = 5.5
"""The rate limit's interval and a little: it counts what it swallowed when the next line after it comes."""

_LOG_S = 2.0
"""How long a line may take from the kernel to here."""


@pytest.mark.requires(kind="iommu-testdev")
@pytest.mark.usefixtures("rested")
def test_storm_of_refused_writes(
    endpoint: Engine, worker: Bench, evidence: Expectations, note_evidence: NoteEvidence, run: Run
) -> None:
    """The device itself says that each was refused. The log need not have a line for each, if it says that it has not:
    suppressed lines, or records that the hardware or the emulator had no room for."""
    node, writer = endpoint.node, endpoint.endpoint.bdf
    if refusals.passes(node) is not False:
        pytest.skip(f"the rig declares domain = {node.iommu.domain!r} on {node.name}: nothing is refused there")
    nowhere = refusals.nowhere(address_map.of_sysfs(run.nodes[node.name].root), _NPAGES * PAGE_NBYTES)
    if nowhere is None:
        pytest.skip("where nothing is cannot be told: memory or BARs are not readable")
    refusals.expect(evidence, node, writer)
    done = worker.run(storm, writer=writer, address=nowhere, count=_COUNT, npages=_NPAGES)
    assert done.refused == _COUNT, f"{_COUNT - done.refused} of {_COUNT} writes to where nothing is were not refused"
    time.sleep(_INTERVAL_S)
    worker.run(storm, writer=writer, address=nowhere, count=1)
    swallowed = _accounts(evidence)
    lines = evidence.seen("iommu-fault")
    text = f"{_COUNT + 1} DMAs refused in {done.seconds:.2f} s: {len(lines)} fault lines, {len(swallowed)} that account"
    note_evidence("test", "storm", "; ".join([text, *dict.fromkeys(one.text for one in swallowed)]))
    assert lines, "ten thousand refused DMAs, and no fault line at all"
    assert len(lines) > _COUNT or swallowed, f"{text}: the log is silent about what it left out"


def _accounts(evidence: Expectations) -> list[Evidence]:
    """What says that faults were left out, waited for; VT-d's status line says so only with its overflow bit."""
    until = time.monotonic() + _LOG_S
    while True:
        seen = evidence.seen("suppressed", "overflow", "fault-status")
        found = [one for one in seen if one.kind != "fault-status" or (one.event is not None and one.event.overflow)]
        if any(one.kind == "suppressed" for one in found) or time.monotonic() >= until:
            return found
        time.sleep(0.05)
