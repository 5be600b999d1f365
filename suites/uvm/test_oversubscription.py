"""More managed memory than a GPU has room for: only where somebody asks for it."""

from __future__ import annotations

import pytest

from dmaproof.cuda.unified.oversubscribe import oversubscribe
from fixtures.ends import End
from fixtures.evidence import NoteEvidence
from fixtures.worker import Bench


@pytest.mark.catches("oversubscribe")
@pytest.mark.oversubscribes
@pytest.mark.requires(gpus=1)
def test_oversubscription(
    typical_gpu: End, oversubscription: float, worker: Bench, note_evidence: NoteEvidence
) -> None:
    seen = worker.run(oversubscribe, gpu=typical_gpu.gpu.bdf, ratio=oversubscription)
    used, free = seen.nbytes >> 20, seen.free_nbytes >> 20
    note_evidence("test", "oversubscription", f"{used} MiB of managed memory on a GPU with {free} MiB left")
    assert seen.nbytes > seen.free_nbytes, f"{used} MiB fit into the {free} MiB that the GPU had left"
    assert seen.first.wrong_words == 0, f"the GPU finds {seen.first.wrong_words} wrong words"
    assert seen.second.wrong_words == 0, f"the GPU finds {seen.second.wrong_words} wrong words the second time"
    assert seen.cpu.wrong_words == 0, f"the CPU finds {seen.cpu.wrong_words} wrong words"
