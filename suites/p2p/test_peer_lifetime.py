"""Peer access from its beginning to its end: the codes of the calls, and faults, never hangs, after it is over.

A mapping that outlives what it maps is worse than one that fails: it reaches memory that is somebody else's by then.
"""

from __future__ import annotations

import pytest

from dmaproof.cuda.lifetime import Ending, switched, used_while, write_after
from dmaproof.errors import WorkloadFailed
from fixtures.ends import Pair
from fixtures.evidence import Expectations, NoteFact
from fixtures.peer_writes import seen, told
from fixtures.worker import Bench

CODES = [
    ("disable", "CUDA_ERROR_PEER_ACCESS_NOT_ENABLED"),
    ("enable", "CUDA_SUCCESS"),
    ("enable", "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED"),
    ("disable", "CUDA_SUCCESS"),
    ("disable", "CUDA_ERROR_PEER_ACCESS_NOT_ENABLED"),
    ("enable", "CUDA_SUCCESS"),
    ("disable", "CUDA_SUCCESS"),
]
"""As cuda.h has them for cuCtxEnablePeerAccess and cuCtxDisablePeerAccess."""
FAULT = "CUDA_ERROR_ILLEGAL_ADDRESS"


@pytest.mark.catches("can_not_enable")
@pytest.mark.requires(gpus=2, peer=True)
def test_peer_access_goes_on_and_off(typical: Pair, worker: Bench, note_fact: NoteFact) -> None:
    """Writes land while it is on, copies of the driver's while it is off."""
    done = worker.run(switched, writer=typical.source.bdf, owner=typical.target.bdf)
    assert [(step.call, step.code) for step in done.steps] == CODES
    for at, step in enumerate(done.steps):
        if step.wrote is None or step.engine is None:
            continue
        how = f"after step {at}, {step.call}: {step.code}"
        story = told(step.wrote, typical, f"{step.engine}, {how}")
        note_fact("peer-write", story, seen(step.wrote, typical, step.engine, can_access=done.can_access, how=how))
        assert not step.wrote.owner.wrong_words, story


@pytest.mark.requires(gpus=2, peer=True)
@pytest.mark.parametrize("ending", ["disabled", "freed", "destroyed", "reset"])
def test_access_after_it_ended_faults(typical: Pair, ending: Ending, worker: Bench, evidence: Expectations) -> None:
    evidence.expect(xid=31)
    with pytest.raises(WorkloadFailed, match=FAULT):
        worker.run(write_after, writer=typical.source.bdf, owner=typical.target.bdf, ending=ending)


@pytest.mark.requires(gpus=2, peer=True)
@pytest.mark.parametrize("ending", ["freed", "destroyed"])
def test_a_mapping_that_ends_in_use_is_no_hang(
    typical: Pair, ending: Ending, worker: Bench, evidence: Expectations
) -> None:
    """The kernel that uses it may fault, or be waited for: it ends by itself. What comes after it must fault."""
    evidence.expect(xid=31)
    with pytest.raises(WorkloadFailed, match=FAULT):
        worker.run(used_while, writer=typical.source.bdf, owner=typical.target.bdf, ending=ending)
