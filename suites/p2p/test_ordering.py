"""What two GPUs may rely on when they share memory: data before the flag that announces it, and sums that add up."""

from __future__ import annotations

import pytest

from dmaproof.cuda.ordering import FlagPlace, Ordered, ordered_writes
from dmaproof.cuda.peer_atomics import Operation, PeerAdds, peer_adds
from dmaproof.evidence.fact import PeerWriteSeen
from fixtures.ends import Pair
from fixtures.evidence import NoteFact
from fixtures.peer_writes import seen, told
from fixtures.worker import Bench

NWORDS, ROUNDS = 4096, 200
ADDS = 1000
FLAG, ANSWER = "a flag behind the data", "an answer to a flag"


@pytest.mark.catches("mismatch", "silent_drop", "mirror")
@pytest.mark.requires(gpus=2, peer=True)
@pytest.mark.parametrize("flag", ["owner", "host"])
def test_data_is_there_when_its_flag_is(typical: Pair, flag: FlagPlace, worker: Bench, note_fact: NoteFact) -> None:
    """With the flag in host memory, the two take different ways."""
    for pair in (typical, typical.reversed()):
        ends = {"writer": pair.source.bdf, "owner": pair.target.bdf}
        wrote = worker.run(ordered_writes, **ends, flag=flag, nwords=NWORDS, rounds=ROUNDS)
        story = _story(wrote, pair)
        # As it stood at the end: a word that came late was wrong before, and is no lost write.
        note_fact("peer-write", story, seen(wrote.last, pair, "sm", can_access=wrote.can_access, how=FLAG))
        if wrote.answer:
            back = pair.reversed()
            fact = seen(wrote.answer, back, "sm", can_access=wrote.can_access, how=ANSWER)
            note_fact("peer-write", told(wrote.answer, back, ANSWER), fact)
        assert wrote.in_order, story


def _story(wrote: Ordered, pair: Pair) -> str:
    writer, owner = pair.source.name, pair.target.name
    parts = [f"of {wrote.rounds} rounds {writer} wrote {wrote.written}, {owner} saw the flag of {wrote.flagged}"]
    if wrote.wrong_words:
        late = f"{wrote.wrong_words} words were not there when their flag was"
        parts.append(f"{late}, first in {wrote.first_wrong_round}")
    if wrote.answered < wrote.written:
        parts.append(f"{writer} gave up waiting for the answer to round {wrote.written}")
    if wrote.last.owner.wrong_words:
        parts.append(
            f"at the end {owner} finds {wrote.last.owner.wrong_words} of {wrote.last.nwords} words wrong, "
            f"{wrote.last.old_words} of them from before all rounds"
        )
    return "; ".join(parts)


@pytest.mark.catches("mismatch", "silent_drop")
@pytest.mark.requires(gpus=2, peer=True)
@pytest.mark.parametrize("operation", ["red", "atom"])
def test_atomics_of_two_gpus_add_up(typical: Pair, operation: Operation, worker: Bench, note_fact: NoteFact) -> None:
    """Where the driver claims native atomics. Where it does not, nothing is asserted about the sum."""
    promised = False
    for pair in (typical, typical.reversed()):
        ends = {"writer": pair.source.bdf, "owner": pair.target.bdf}
        added = worker.run(peer_adds, **ends, operation=operation, rounds=ADDS)
        if not added.native:
            continue
        promised = True
        story = _sum(added, pair, operation)
        note_fact("peer-write", story, _added(added, pair))
        assert not added.wrong_words, story
    if not promised:
        pytest.skip(
            f"the driver claims no native atomics between {typical.source.name} and {typical.target.name}: "
            f"{added.wrong_words} of {added.nwords} sums are not exact, and none need be"
        )


def _added(added: PeerAdds, pair: Pair) -> PeerWriteSeen:
    return PeerWriteSeen(
        writer=pair.source.bdf,
        owner=pair.target.bdf,
        engine="sm",
        nbytes=4 * added.nwords,
        nwords=added.nwords,
        wrong_words=added.wrong_words,
        old_words=added.without_the_peer,
        writer_wrong_words=added.writer_wrong_words,
        can_access=added.can_access,
        how="atomics",
    )


def _sum(added: PeerAdds, pair: Pair, operation: str) -> str:
    return (
        f"the driver claims native atomics from {pair.source.name} to {pair.target.name}, yet {added.wrong_words} of "
        f"{added.nwords} sums in memory of {pair.target.name} are wrong after {added.rounds} adds by each GPU "
        f"({operation}): {added.lost} adds are missing, {added.without_the_peer} words have none of the peer's"
    )
