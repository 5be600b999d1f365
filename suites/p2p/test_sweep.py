"""Copies that run at once in combinations that nobody would write down, and peer access off against on.

Sets are drawn by ``--sweep-seed N --sweep-count M``; a failure says its line, which ``--sweep LINE`` runs again alone.
"""

from __future__ import annotations

import pytest

from dmaproof.cuda.cases import Cell
from dmaproof.cuda.cells import measure_cells
from dmaproof.cuda.copies import Transfer, sequence_bandwidth
from dmaproof.measurement import Measurement
from dmaproof.triage.shortfall import SHORTFALL
from fixtures.choice import choice
from fixtures.ends import Gpus
from fixtures.evidence import NoteFact
from fixtures.measure import Measure
from fixtures.sweep import SweepSet, note_wrong
from fixtures.worker import Bench

NBYTES = 64 << 20


@pytest.mark.catches("mismatch", "silent_drop", "mirror")
@pytest.mark.requires(gpus=1)
def test_copies_at_once(sweep_set: SweepSet, worker: Bench, note_fact: NoteFact) -> None:
    """Each SRC EXE DST triple has memory of its own, and the owner of every target looks at what arrived there."""
    bdfs = {gpu.name: gpu.bdf for gpu in sweep_set.node.gpus}
    transfers = tuple(one.transfer(bdfs) for one in sweep_set.triples)
    cell = Cell(0, 0, transfers, "total", None, None)
    (result,) = worker.run(measure_cells, cells=(cell,)).results
    for wrong in result.wrong:
        note_wrong(wrong, note_fact)
    told = "; ".join(map(str, result.wrong))
    assert not result.wrong, f"{told}; again with --sweep='{sweep_set.line}'"


@pytest.mark.catches("slower_than_host", "acs")
@pytest.mark.requires(gpus=2)
def test_peer_access_off_and_on(gpus: Gpus, worker: Bench, measure: Measure, request: pytest.FixtureRequest) -> None:
    """The matrix staged through the host, and beside it that of peer access: no cell of it may be slower. All ordered
    pairs, or those that --pairs and --sample leave."""
    names = {gpu.bdf: gpu.name for gpu in gpus.endpoints}
    bdfs = list(names)
    pairs = [(bdfs[i], bdfs[j]) for i, j in choice(request.config).of(len(bdfs))]
    on = [pair for pair in pairs if (path := gpus.node.path_between(*(names[end] for end in pair))) and path.peer]
    if not on:
        pytest.skip(f"the rig declares no peer access between any two GPUs of {gpus.node.name}")
    rates = {peer: _matrix(on, peer, worker) for peer in (False, True)}
    slow = []
    for pair in on:
        source, target = (names[end] for end in pair)
        for peer, found in rates.items():
            measure(found[pair], source=source, target=target, path="ce", peer=peer, direction="one", nbytes=NBYTES)
        off_GBps, on_GBps = (rates[peer][pair].median for peer in (False, True))  # noqa: N806 - the unit's own case
        if on_GBps < off_GBps * (1 - SHORTFALL):
            slow.append(f"{source} to {target}: {on_GBps:.1f} GB/s, staged through the host {off_GBps:.1f} GB/s")
    assert not slow, "; ".join(slow)


def _matrix(pairs: list[tuple[str, str]], peer: bool, worker: Bench) -> dict[tuple[str, str], Measurement]:
    """One after the other, as many a call as a second holds."""
    found: list[Measurement] = []
    while len(found) < len(pairs):
        left = [Transfer(*pair, "ce", NBYTES, peer=peer) for pair in pairs[len(found) :]]
        found += worker.run(sequence_bandwidth, transfers=left).measurements
    return dict(zip(pairs, found, strict=True))
