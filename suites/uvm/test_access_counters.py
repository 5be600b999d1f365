"""Pages that a GPU reads over the link often enough may come to it: observed, where the driver shows it."""

from __future__ import annotations

import pytest

from dmaproof.cuda.unified.remote import reach_often
from dmaproof.evidence import access_counters
from fixtures.before_and_after import BeforeAndAfter
from fixtures.ends import End
from fixtures.evidence import NoteEvidence
from fixtures.state import Run
from fixtures.worker import Bench

NBYTES, TIMES = 2 << 20, 300
"""One block at the counters' granularity, more often than their threshold of 256."""


@pytest.mark.requires(gpus=1)
def test_often_read_pages(typical_gpu: End, run: Run, worker: Bench, note_evidence: NoteEvidence) -> None:
    """Whether and when they move is the driver's policy; that each read finds what the CPU wrote is not."""
    if typical_gpu.node.addressing != "ats":
        declared = f"rig {run.rig.id} declares addressing = {typical_gpu.node.addressing!r} on {typical_gpu.node.name}"
        pytest.skip(f"{declared}: access counters migrate pages under ats alone")
    root, uuid = run.nodes[typical_gpu.node.name].root, typical_gpu.gpu.uuid or ""
    counted = BeforeAndAfter(lambda: access_counters.read(root, uuid))
    reached = worker.run(reach_often, around=counted, gpu=typical_gpu.gpu.bdf, nbytes=NBYTES, times=TIMES)
    note_evidence("test", "residence", f"before {TIMES} reads {reached.before}; after them {reached.after}")
    if counted.before is None or counted.after is None:
        note_evidence(
            "test", "access-counters", f"whether counters moved pages is not to be told: {access_counters.MISSING}"
        )
    else:
        moved = counted.after.pages_in - counted.before.pages_in
        note_evidence("test", "access-counters", f"{moved} pages came to the GPU by its access counters")
    assert reached.found.wrong_words == 0, f"the GPU finds {reached.found.wrong_words} words that the CPU did not write"
