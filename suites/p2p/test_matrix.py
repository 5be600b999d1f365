"""The whole matrix of a node whose GPUs' links are known, in rounds of transfers that share none: all links at work.

Figures are those of one pair after the other where the links are what limits; the matrix takes as many times less as
transfers go at once.
"""

from __future__ import annotations

from functools import partial

import pytest

from dmaproof.cuda.copies import Transfer, copy_bandwidth
from dmaproof.rig.rounds import Pair, Round, links, rounds
from fixtures.choice import Choice, choice
from fixtures.ends import Gpus
from fixtures.measure import Measure, reaches
from fixtures.worker import Bench

NBYTES = 64 << 20


@pytest.mark.catches("asymmetry")
@pytest.mark.requires(gpus=2)
def test_matrix_in_rounds(gpus: Gpus, worker: Bench, measure: Measure, request: pytest.FixtureRequest) -> None:
    node, short = gpus.node, []
    for one in _planned(gpus, choice(request.config)):
        transfers = [Transfer(node.gpu[a].bdf, node.gpu[b].bdf, "ce", NBYTES) for a, b in one]
        measured = worker.run(copy_bandwidth, transfers=transfers).measurements
        for (source, target), figure in zip(one, measured, strict=True):
            path = node.path_between(source, target)
            declared = path.bandwidth_GBps if path is not None else None
            where = {"source": source, "target": target, "path": "ce", "peer": True, "direction": "one"}
            measure(figure, **where, nbytes=NBYTES, declared=declared)
            if not reaches(figure, declared, "ce"):
                short.append(f"{source} to {target} {figure.median:.1f} of {declared} GB/s declared")
    assert not short, "; ".join(short)


def _planned(gpus: Gpus, wanted: Choice) -> tuple[Round, ...]:
    """Skips where links are not known, or shared in ways that nobody knows: there one pair after the other is right,
    which test_peer_copy_reaches_link_rate does."""
    node, names = gpus.node, [gpu.name for gpu in gpus.endpoints]
    pairs: list[Pair] = [(names[i], names[j]) for i, j in wanted.of(len(names))]
    paths = [node.path_between(*pair) for pair in pairs]
    if any(path is None or path.kind != "nvlink" or not path.peer for path in paths):
        pytest.skip(
            f"the rig declares no NVLink between every two GPUs of {node.name}: what else shares a link is unknown"
        )
    return rounds(pairs, partial(links, node))
