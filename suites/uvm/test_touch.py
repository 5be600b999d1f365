"""First touch of every kind of memory, by CPU and GPU, and pages that go from GPU to GPU."""

from __future__ import annotations

from typing import Literal

import pytest

from dmaproof.cuda.memory import SharedKind
from dmaproof.cuda.unified.system import SYSTEM_KINDS, Kind
from dmaproof.cuda.unified.touch import first_touch, pass_between
from fixtures.ends import End, Pair
from fixtures.evidence import NoteEvidence
from fixtures.pageable import RESIDENCE, RequireMemory
from fixtures.worker import Bench

NBYTES = (2 << 20) + (4 << 10)


@pytest.mark.requires(gpus=1)
@pytest.mark.parametrize("first", ["cpu", "gpu"])
@pytest.mark.parametrize("kind", SYSTEM_KINDS)
def test_touch_of_system_memory(
    typical_gpu: End,
    kind: Kind,
    first: Literal["cpu", "gpu"],
    worker: Bench,
    require_memory: RequireMemory,
    note_evidence: NoteEvidence,
) -> None:
    """Whichever side touches it first, and whatever is behind it, the other sees each word. Where the pages then are is
    the kernel's choice: it is kept, not judged."""
    require_memory(kind)
    touched = worker.run(first_touch, gpu=typical_gpu.gpu.bdf, kind=kind, nbytes=NBYTES, first=first)
    note_evidence("test", RESIDENCE, f"{kind} memory that the GPU has touched last: {touched.after_gpu}")
    other = "GPU" if first == "cpu" else "CPU"
    assert touched.second.wrong_words == 0, f"the {other} finds {touched.second.wrong_words} wrong words"
    assert touched.first.wrong_words == 0, f"after the GPU's change the CPU finds {touched.first.wrong_words}"


@pytest.mark.requires(gpus=2)
@pytest.mark.parametrize("memory", ["managed", "malloc"])
def test_pages_pass_between_gpus(
    typical: Pair, memory: SharedKind, worker: Bench, require_memory: RequireMemory
) -> None:
    """One GPU writes, the other reads that where it is, without a mapping by cuCtxEnablePeerAccess; and back."""
    require_memory(memory)
    first, second = typical.source.bdf, typical.target.bdf
    passed = worker.run(pass_between, first=first, second=second, kind=memory, nbytes=NBYTES)
    assert passed.there.wrong_words == 0, f"{second} finds {passed.there.wrong_words} words that {first} did not write"
    assert passed.back.wrong_words == 0, f"{first} finds {passed.back.wrong_words} words that {second} did not write"
    assert passed.cpu.wrong_words == 0, f"the CPU finds {passed.cpu.wrong_words} words that {second} did not write"
