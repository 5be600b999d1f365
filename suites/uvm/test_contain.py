"""What one process does wrong ends that process's context, with the Xid that says so, and nothing else."""

from __future__ import annotations

import pytest

from dmaproof.cuda.integrity import probe
from dmaproof.cuda.unified.contain import Nowhere, outlive_killed_neighbour, stray_write, trap
from dmaproof.errors import WorkloadFailed
from fixtures.ends import End
from fixtures.evidence import Expectations, NoteEvidence
from fixtures.pageable import RequireMemory
from fixtures.worker import Bench

MMU_FAULT, RESET_CHANNEL, PREEMPTIVE_REMOVAL = 31, 43, 45


@pytest.mark.requires(gpus=1)
@pytest.mark.parametrize("where", ["no-access", "null", "read-only"])
def test_stray_write_is_contained(
    typical_gpu: End, where: Nowhere, worker: Bench, require_memory: RequireMemory, evidence: Expectations
) -> None:
    if where == "read-only":
        require_memory("read-only")
    evidence.expect(xid=MMU_FAULT)
    with pytest.raises(WorkloadFailed, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
        worker.run(stray_write, gpu=typical_gpu.gpu.bdf, where=where)
    assert worker.run(probe, gpu=typical_gpu.gpu.bdf).name, "a fresh process"


@pytest.mark.requires(gpus=1)
def test_trap_is_contained(typical_gpu: End, worker: Bench, evidence: Expectations) -> None:
    evidence.expect(xid=RESET_CHANNEL)
    with pytest.raises(WorkloadFailed, match="CUDA_ERROR_LAUNCH_FAILED"):
        worker.run(trap, gpu=typical_gpu.gpu.bdf)
    assert worker.run(probe, gpu=typical_gpu.gpu.bdf).name, "a fresh process"


@pytest.mark.requires(gpus=1)
def test_killed_neighbour(typical_gpu: End, worker: Bench, evidence: Expectations, note_evidence: NoteEvidence) -> None:
    """A process is killed in the middle of its kernel; this one's goes on. Drivers may say Xid 45 of the channel that
    they remove, and nothing else."""
    seen = worker.run(outlive_killed_neighbour, gpu=typical_gpu.gpu.bdf)
    assert seen.passes_after >= 3, f"the bystander's kernel made {seen.passes_after} passes after the neighbour's death"
    assert seen.found.wrong_words == 0, f"{seen.found.wrong_words} words of the bystander's memory have changed"
    said = {one.event.xid for one in evidence.seen("xid") if one.event is not None and one.event.pid == seen.victim}
    note_evidence("test", "victim", f"of the killed process {seen.victim} the kernel log says {_told(said)}")
    assert said <= {PREEMPTIVE_REMOVAL}, f"of the killed process {seen.victim} the kernel log says {_told(said)}"


def _told(xids: set[int | None]) -> str:
    return ", ".join(f"Xid {number}" for number in sorted(filter(None, xids))) or "nothing"
