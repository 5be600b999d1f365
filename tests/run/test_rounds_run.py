"""A matrix in rounds gives the figures of one pair after the other, in a third of the time and less."""

from __future__ import annotations

from functools import partial

import pytest

from dmaproof.rig import load
from dmaproof.rig.rounds import Pair, links, rounds
from tests.run.conftest import Finished, RunSuites

NBYTES, COPIES = 64 << 20, 16


def figures(run: Finished, test: str) -> dict[Pair, float]:
    lines = [line for line in run.record.measurements if f"::{test}[" in line.test]
    return {(str(line.source), str(line.target)): line.median for line in lines}


def test_an_nvswitch_rig_is_measured_in_rounds(run_suites: RunSuites) -> None:
    choice = "test_matrix_in_rounds or (test_peer_copy_reaches_link_rate and ce)"
    run = run_suites("suites/p2p", "--rig=virtual:hgx-h100", "-k", choice)
    assert run.status == 0, run.output
    alone = figures(run, "test_peer_copy_reaches_link_rate")
    together = figures(run, "test_matrix_in_rounds")
    assert len(alone) == 56
    assert together == pytest.approx(alone, rel=0.005)
    planned = rounds(list(together), partial(links, load.load("virtual:hgx-h100").first))
    took = {pair: NBYTES * COPIES / value for pair, value in together.items()}
    in_rounds = sum(max(took[pair] for pair in one) for one in planned)
    assert sum(NBYTES * COPIES / value for value in alone.values()) >= 3 * in_rounds


@pytest.mark.parametrize("rig", ["virtual:pcie-switch", "virtual:pcie-pair"])
def test_where_links_are_shared_in_unknown_ways_there_are_no_rounds(rig: str, run_suites: RunSuites) -> None:
    run = run_suites("suites/p2p/test_matrix.py", f"--rig={rig}")
    assert run.status == 0, run.output
    assert [test.outcome for test in run.record.tests] == ["skipped"]
    assert "declares no NVLink between every two GPUs" in run.record.tests[0].message


def test_a_matrix_in_rounds_finds_the_slow_gpu(run_suites: RunSuites) -> None:
    run = run_suites("suites/p2p/test_matrix.py", "--rig=virtual:hgx-h100", "--plant=nvlink-degraded")
    assert run.status == 1, run.output
    assert run.signatures == {"nvlink-degraded"}
    low = [one for one in run.record.judgements if one.by == "peers" and one.standing == "low"]
    assert len(low) == 14
    assert all("gpu7" in (one.source, one.target) for one in low)
