"""What surrounds a process on other people's machines: few CPUs, no IMEX channel."""

from __future__ import annotations

import pytest

from dmaproof.cuda.confined import confined_copy
from dmaproof.cuda.fabric import fabric_memory
from fixtures.ends import End
from fixtures.evidence import NoteEvidence
from fixtures.measure import Measure
from fixtures.worker import Bench

NBYTES = 16 << 20


@pytest.mark.catches("affinity")
@pytest.mark.requires(gpus=1)
def test_copies_from_a_restricted_cpuset(
    typical_gpu: End, worker: Bench, measure: Measure, note_evidence: NoteEvidence
) -> None:
    """It works, it stays within its CPUs, and says which one could not be had; how fast it is, is that CPU's matter."""
    name = typical_gpu.gpu.name
    done = worker.run(confined_copy, gpu=typical_gpu.gpu.bdf, nbytes=NBYTES)
    memory = "pinned-far>device" if done.is_far else None
    measure(done.measurement, source="host", target=name, path="ce", direction="one", nbytes=NBYTES, memory=memory)
    near = (
        f"near {name} are CPUs {', '.join(map(str, done.local))}"
        if done.local
        else "the bus does not say which is near"
    )
    note_evidence("cpu", "confined", f"host memory for {name} was touched by CPU {done.cpu}, the only one left; {near}")
    assert done.after == (done.cpu,), f"the thread was given CPU {done.cpu}, and may now run on {done.after}"


@pytest.mark.catches("imex")
@pytest.mark.requires(gpus=1)
def test_fabric_handle(typical_gpu: End, worker: Bench) -> None:
    """Skipped, with the reason, where the GPU is on no fabric or the process has no IMEX channel."""
    seen = worker.run(fabric_memory, gpu=typical_gpu.gpu.bdf)
    assert seen.view.wrong_words == 0, f"{seen.view.wrong_words} of {seen.nwords} words are wrong through the import"
