"""Advice to UVM: copies of pages that are mostly read, pages that stay with the host, mappings made ahead."""

from __future__ import annotations

from typing import Literal

import pytest

from dmaproof.cuda.unified.advice import read_mostly, stays_with_host
from dmaproof.evidence import uvm
from fixtures.before_and_after import BeforeAndAfter
from fixtures.ends import End, Pair
from fixtures.evidence import NoteEvidence
from fixtures.fault_counters import fault_stats
from fixtures.pageable import check_on_host
from fixtures.state import Run
from fixtures.worker import Bench

NBYTES = 2 << 20


@pytest.mark.requires(gpus=1)
def test_read_mostly(typical_gpu: End, worker: Bench) -> None:
    _check_duplicates([typical_gpu.gpu.bdf], worker)


@pytest.mark.requires(gpus=2)
def test_read_mostly_on_two_gpus(typical: Pair, worker: Bench) -> None:
    """Both hold a copy; what the CPU then writes, and what one of them writes, all see."""
    _check_duplicates([typical.source.bdf, typical.target.bdf], worker)


def _check_duplicates(gpus: list[str], worker: Bench) -> None:
    seen = worker.run(read_mostly, gpus=gpus, nbytes=NBYTES)
    assert seen.told.read_mostly, "the driver does not know of the advice"
    assert not seen.told_after.read_mostly, "the driver keeps advice that was taken back"
    for gpu, first, second in zip(gpus, seen.first, seen.second, strict=True):
        assert first.wrong_words == 0, f"{gpu} finds {first.wrong_words} wrong words in its copy"
        assert second.wrong_words == 0, (
            f"{gpu} finds {second.wrong_words} words of a copy that the CPU has written over"
        )
    assert seen.third.wrong_words == 0, f"the CPU finds {seen.third.wrong_words} words that {gpus[-1]} has written over"


@pytest.mark.requires(gpus=1)
@pytest.mark.parametrize("advice", ["PREFERRED_LOCATION", "ACCESSED_BY"])
def test_pages_stay_with_the_host(
    typical_gpu: End,
    advice: Literal["PREFERRED_LOCATION", "ACCESSED_BY"],
    worker: Bench,
    run: Run,
    note_evidence: NoteEvidence,
) -> None:
    """The GPU uses them over the bus. That nothing moves is told by the driver's counters, where they can be read."""
    bdf = typical_gpu.gpu.bdf
    counted = BeforeAndAfter(lambda: fault_stats(run, typical_gpu))
    seen = worker.run(stays_with_host, around=counted, gpu=bdf, advice=advice, nbytes=NBYTES)
    assert seen.gpu.wrong_words == 0, f"the GPU finds {seen.gpu.wrong_words} words that the CPU did not write"
    assert seen.cpu.wrong_words == 0, f"the CPU finds {seen.cpu.wrong_words} words that the GPU did not write"
    if advice == "PREFERRED_LOCATION":
        assert seen.told.preferred == "host", f"the driver names {seen.told.preferred} as the preferred location"
        check_on_host(seen.where, "the GPU's accesses", note_evidence)
    else:
        assert bdf in seen.told.accessed_by, f"the driver names {seen.told.accessed_by or 'nobody'} as advised"
    if counted.before is None or counted.after is None:
        note_evidence("test", "uvm-fault-stats", f"whether pages moved is not to be told: {uvm.MISSING}")
        return
    moved = counted.after.pages_in - counted.before.pages_in
    assert moved == 0, f"{moved} pages came to the GPU that were to stay with the host"
