"""The process changes its mappings under a GPU that reads them: what the GPU may no longer read it must not read."""

from __future__ import annotations

from typing import NoReturn

import pytest

from dmaproof.cuda.unified.mappings import FATAL, Change, Seen, When, change
from dmaproof.cuda.unified.one_page import fork_with_managed
from dmaproof.errors import WorkloadFailed
from fixtures.ends import End
from fixtures.evidence import Expectations
from fixtures.pageable import RequireMemory
from fixtures.worker import Bench

NBYTES = (2 << 20) + (4 << 10)
AFTER = {
    **{"protect-read": {"old"}, "replace": {"new"}, "dontneed": {"zero"}, "fork": {"new"}},
    "free": {"old", "zero", "old or zero"},  # whenever the kernel wants the pages (madvise(2), MADV_FREE)
}
SIGSEGV, SIGBUS = 11, 7


@pytest.mark.requires(gpus=1)
@pytest.mark.parametrize("when", ["while", "between"])
@pytest.mark.parametrize("what", AFTER)
def test_mapping_changes_under_reads(
    typical_gpu: End, what: Change, when: When, worker: Bench, require_memory: RequireMemory
) -> None:
    require_memory("mmap")
    seen = worker.run(change, gpu=typical_gpu.gpu.bdf, what=what, when=when, nbytes=NBYTES)
    assert seen.before == "old", f"before anything changed the GPU read {seen.before} words"
    assert seen.after in AFTER[what], (
        f"after {what} the GPU reads {seen.after} words, not {' or '.join(sorted(AFTER[what]))}: "
        "it has kept a translation that is no longer true"
    )
    if what == "fork":
        assert seen.child_wrong == 0, f"{seen.child_wrong} of the child's words are not as they were at fork(2)"


@pytest.mark.catches("livelock_silent")
@pytest.mark.requires(gpus=1)
@pytest.mark.parametrize("when", ["while", "between"])
@pytest.mark.parametrize("what", FATAL)
def test_reads_end_with_their_mapping(
    typical_gpu: End, what: Change, when: When, worker: Bench, require_memory: RequireMemory, evidence: Expectations
) -> None:
    """What is gone is an error at once, told by Xid 31: no hang, and no more words of memory that is another's now."""
    require_memory("mmap")
    evidence.expect(xid=31)
    with pytest.raises(WorkloadFailed, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
        _must_not_go_on(worker.run(change, gpu=typical_gpu.gpu.bdf, what=what, when=when, nbytes=NBYTES), what)


def _must_not_go_on(seen: Seen, what: Change) -> NoReturn:
    pytest.fail(
        f"after {what} the GPU went on for {seen.passes} passes and read {seen.after} words: "
        "it has kept a translation of memory that is gone"
    )


@pytest.mark.requires(gpus=1)
def test_a_child_inherits_no_managed_memory(typical_gpu: End, worker: Bench) -> None:
    """It is killed when it looks there (nvidia-uvm takes its mappings out of fork(2)); the parent's is as it was."""
    seen = worker.run(fork_with_managed, gpu=typical_gpu.gpu.bdf, nbytes=NBYTES)
    assert seen.child.signal in (SIGSEGV, SIGBUS), f"the child has read its parent's managed memory: {seen.child}"
    assert seen.gpu.wrong_words == 0, f"after the fork the GPU finds {seen.gpu.wrong_words} wrong words"
    assert seen.cpu.wrong_words == 0, f"after the fork the CPU finds {seen.cpu.wrong_words} wrong words"
