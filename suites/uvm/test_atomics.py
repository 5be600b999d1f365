"""System-scope atomics of CPU and GPU on one page: exact, or refused at once where the kernel cannot serve them."""

from __future__ import annotations

import pytest

from dmaproof.cuda.atomics import Added, both_add
from dmaproof.cuda.memory import SharedKind
from dmaproof.cuda.unified.system import Kind
from dmaproof.errors import WorkloadFailed
from fixtures.ends import End
from fixtures.evidence import Expectations
from fixtures.pageable import RequireMemory
from fixtures.worker import Bench

ROUNDS = 50
NEVER_EXCLUSIVE = ("mmap-shared", "memfd", "file", "hugetlb", "hugetlb-shared")


@pytest.mark.catches("livelock_silent")
@pytest.mark.requires(gpus=1)
def test_atomics_add_up(gpu: End, memory: SharedKind, worker: Bench) -> None:
    _assert_exact(worker.run(both_add, gpu=gpu.gpu.bdf, memory=memory, rounds=ROUNDS), memory)


@pytest.mark.catches("livelock_silent")
@pytest.mark.requires(gpus=1)
def test_atomics_on_shared_memory(
    typical_gpu: End, worker: Bench, require_memory: RequireMemory, evidence: Expectations
) -> None:
    """ATS serves them. HMM cannot make shared pages the GPU's own, and says so by a fault, never by a hang
    (kernel-open/nvidia-uvm/uvm_hmm.c, hmm_block_atomic_fault_locked)."""
    require_memory("mmap-shared")
    _serves_or_refuses(typical_gpu, "mmap-shared", worker, evidence)


@pytest.mark.catches("livelock_silent")
@pytest.mark.requires(gpus=1)
@pytest.mark.parametrize("kind", ["stack", "mmap", "memfd", "file", "file-private", "hugetlb", "hugetlb-shared"])
def test_atomics_on_every_mapping(
    typical_gpu: End, kind: Kind, worker: Bench, require_memory: RequireMemory, evidence: Expectations
) -> None:
    """Under HMM only pages that are the process's own and of no file can be the GPU's alone: also a private mapping's,
    once it has been written; never huge pages of the pool (mm/rmap.c, make_device_exclusive)."""
    require_memory(kind)
    _serves_or_refuses(typical_gpu, kind, worker, evidence)


def _serves_or_refuses(gpu: End, kind: Kind, worker: Bench, evidence: Expectations) -> None:
    work = {"gpu": gpu.gpu.bdf, "memory": kind, "rounds": ROUNDS}
    if gpu.node.addressing == "ats" or kind not in NEVER_EXCLUSIVE:
        _assert_exact(worker.run(both_add, **work), kind)
        return
    evidence.expect(xid=31)
    with pytest.raises(WorkloadFailed, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
        worker.run(both_add, **work)


def _assert_exact(added: Added, memory: Kind) -> None:
    assert added.by_gpu > 0, "the GPU added nothing"
    assert added.wrong_words == 0, (
        f"{added.lost} of {added.by_cpu + added.by_gpu} adds to {memory} memory are lost, "
        f"in {added.wrong_words} of {added.nwords} words"
    )
