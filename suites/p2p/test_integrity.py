"""Peer writes, judged by the only one who can: the owner of the memory, reading locally."""

from __future__ import annotations

import pytest

from dmaproof.cuda.copies import Engine
from dmaproof.cuda.integrity import PeerWrite, peer_write
from dmaproof.evidence.fact import PeerWriteSeen
from fixtures.evidence import NoteFact
from fixtures.pairs import Pair
from fixtures.worker import Bench


@pytest.mark.catches("mirror", "mismatch", "silent_drop", "can_not_enable", "mailbox", "bar_efault")
@pytest.mark.requires(gpus=2, peer=True)
@pytest.mark.parametrize("nbytes", [pytest.param(1 << 10, id="1KiB"), pytest.param(64 << 20, id="64MiB")])
@pytest.mark.parametrize("engine", ["ce", "sm"])
def test_peer_write_lands(pair: Pair, nbytes: int, engine: Engine, worker: Bench, note_fact: NoteFact) -> None:
    wrote = worker.run(peer_write, writer=pair.source.bdf, owner=pair.target.bdf, nbytes=nbytes, engine=engine)
    story = _story(wrote, pair)
    note_fact("peer-write", story, _seen(wrote, pair, engine, nbytes))
    assert wrote.landed, story


def _seen(wrote: PeerWrite, pair: Pair, engine: Engine, nbytes: int) -> PeerWriteSeen:
    """The owner looked twice; what either of its looks found wrong is wrong."""
    return PeerWriteSeen(
        writer=pair.source.bdf,
        owner=pair.target.bdf,
        engine=engine,
        nbytes=nbytes,
        nwords=wrote.nwords,
        wrong_words=max(wrote.owner.wrong_words, wrote.owner_copied.wrong_words),
        old_words=wrote.old_words,
        writer_wrong_words=wrote.writer.wrong_words,
    )


def _story(wrote: PeerWrite, pair: Pair) -> str:
    owner, view = pair.target.name, wrote.owner
    found = (
        f"{owner} finds {view.wrong_words} of {wrote.nwords} words wrong, the first at byte {view.first_wrong_offset}; "
        f"{wrote.old_words} words still hold what was there before"
    )
    if wrote.writer.wrong_words == 0:
        found += (
            f"; yet {pair.source.name} reads its own data back through its mapping (a mirror, not {owner}'s memory)"
        )
    if wrote.owner.wrong_words != wrote.owner_copied.wrong_words:
        found += f"; a copy to the host shows {wrote.owner_copied.wrong_words} wrong words"
    return found
