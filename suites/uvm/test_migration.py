"""How fast pages move, by faults, by prefetching, and to and fro; and how many faults a page takes."""

from __future__ import annotations

import pytest

from dmaproof.cuda.memory import SharedKind
from dmaproof.cuda.unified.migration import Migrated, Way, migrate
from dmaproof.evidence import uvm
from dmaproof.evidence.uvm import FaultStats
from dmaproof.measurement import Measurement
from fixtures.before_and_after import BeforeAndAfter
from fixtures.ends import End
from fixtures.evidence import NoteEvidence
from fixtures.fault_counters import fault_stats
from fixtures.measure import Measure
from fixtures.pageable import RequireMemory
from fixtures.state import Run
from fixtures.worker import Bench

NBYTES = 16 << 20


@pytest.mark.catches("livelock_silent")
@pytest.mark.requires(gpus=1)
@pytest.mark.parametrize("way", ["faulted", "prefetched", "ping-pong"])
@pytest.mark.parametrize("memory", ["managed", "malloc"])
def test_migration_rate(
    typical_gpu: End,
    memory: SharedKind,
    way: Way,
    run: Run,
    worker: Bench,
    require_memory: RequireMemory,
    measure: Measure,
    note_evidence: NoteEvidence,
) -> None:
    require_memory(memory)
    counted, bdf = BeforeAndAfter(lambda: fault_stats(run, typical_gpu)), typical_gpu.gpu.bdf
    moved = worker.run(migrate, around=counted, gpu=bdf, memory=memory, way=way, nbytes=NBYTES)
    ends = {"source": "host", "target": typical_gpu.gpu.name, "memory": memory, "nbytes": NBYTES}
    measure(moved.measurement, **ends)
    if counted.before is None or counted.after is None:
        note_evidence("test", "uvm-fault-stats", f"how many faults a page takes is not to be told: {uvm.MISSING}")
    else:
        measure(_faults_per_page(moved, counted.before, counted.after), **ends)
    assert moved.found.wrong_words == 0, f"in the end the CPU finds {moved.found.wrong_words} wrong words"


def _faults_per_page(moved: Migrated, before: FaultStats, after: FaultStats) -> Measurement:
    """Duplicates are faults that a fault before them has served already."""
    faults, duplicates = after.replayable_faults - before.replayable_faults, after.duplicates - before.duplicates
    method = f"fault_stats of the GPU: {faults} faults, {duplicates} of them duplicates, over {moved.npages} pages"
    return Measurement("faults_per_page", "faults/page", (faults / moved.npages,), method)
