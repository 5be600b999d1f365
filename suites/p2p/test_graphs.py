"""Peer writes replayed by a captured graph: each replay's data, and what a replay costs beside plain copies."""

from __future__ import annotations

import pytest

from dmaproof.cuda.copies import Transfer, copy_bandwidth
from dmaproof.cuda.graphs import Replays, replay_bandwidth, replayed_writes
from dmaproof.cuda.writes import Writer
from dmaproof.triage.shortfall import tolerance
from fixtures.ends import Pair
from fixtures.evidence import NoteFact
from fixtures.measure import Measure
from fixtures.peer_writes import seen
from fixtures.worker import Bench

NBYTES, REPLAYS = 4 << 20, 8
COPIED_NBYTES = 64 << 20
ENGINES = pytest.mark.parametrize("engine", ["ce", "sm"])


@pytest.mark.catches("graph_replay", "silent_drop", "mirror")
@pytest.mark.requires(gpus=2, peer=True)
@ENGINES
def test_replayed_writes_land(typical: Pair, engine: Writer, worker: Bench, note_fact: NoteFact) -> None:
    for pair in (typical, typical.reversed()):
        ends = {"writer": pair.source.bdf, "owner": pair.target.bdf}
        wrote = worker.run(replayed_writes, **ends, nbytes=NBYTES, engine=engine, replays=REPLAYS)
        at, found = wrote.first_wrong()
        story = _story(wrote, pair)
        how = "a graph" if at else None
        note_fact("peer-write", story, seen(found, pair, engine, can_access=wrote.can_access, how=how))
        assert not found.owner.wrong_words, story


def _story(wrote: Replays, pair: Pair) -> str:
    at, found = wrote.first_wrong()
    which = f"replay {at} of {len(wrote.replays)}" if at else "a plain write, before any graph,"
    told = (
        f"after {which} {pair.target.name} finds {found.owner.wrong_words} of {found.nwords} words wrong, "
        f"{found.old_words} of them from before it"
    )
    if at and found.owner.wrong_words:
        told += f"; a plain write of {pair.source.name} landed: it is the graph that fails"
    return told


@pytest.mark.catches("graph_replay")
@pytest.mark.requires(gpus=2, peer=True)
@ENGINES
def test_replay_is_as_fast_as_plain_copies(typical: Pair, engine: Writer, worker: Bench, measure: Measure) -> None:
    source, target = typical.source.bdf, typical.target.bdf
    transfer = Transfer(source, target, engine, COPIED_NBYTES)
    (plain,) = worker.run(copy_bandwidth, transfers=[transfer]).measurements
    replayed = worker.run(replay_bandwidth, source=source, target=target, engine=engine, nbytes=COPIED_NBYTES)
    where = {"source": typical.source.name, "target": typical.target.name, "path": engine}
    measure(plain, **where, peer=True, direction="one", nbytes=COPIED_NBYTES, recorded=False)
    measure(replayed, **where, peer=True, direction="one", nbytes=COPIED_NBYTES)
    least = plain.median * (1 - tolerance(engine))
    assert replayed.median >= least, f"by a graph {replayed.median:.1f} GB/s, plain {plain.median:.1f} GB/s"
