"""CPU and GPU store to one page at the same time."""

from __future__ import annotations

import pytest

from dmaproof.cuda.memory import SharedKind
from dmaproof.cuda.unified.one_page import different_words
from fixtures.ends import End
from fixtures.pageable import RequireMemory
from fixtures.worker import Bench

ROUNDS = 50


@pytest.mark.catches("livelock_silent")
@pytest.mark.requires(gpus=1)
@pytest.mark.parametrize("memory", ["managed", "malloc"])
def test_different_words_of_one_page(
    typical_gpu: End, memory: SharedKind, worker: Bench, require_memory: RequireMemory
) -> None:
    require_memory(memory)
    divided = worker.run(different_words, gpu=typical_gpu.gpu.bdf, memory=memory, rounds=ROUNDS)
    assert divided.gpu_rounds > 0, "the GPU stored nothing"
    assert divided.cpu_wrong == 0, f"{divided.cpu_wrong} of the CPU's words have lost its last store"
    assert divided.gpu_wrong == 0, f"{divided.gpu_wrong} of the GPU's words have lost its last store"
