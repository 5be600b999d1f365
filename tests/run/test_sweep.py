"""Sets of copies at once: the same by the same seed, and a failure says how to have it again."""

from __future__ import annotations

import re

from tests.run.conftest import RunSuites

SUITE = "suites/p2p/test_sweep.py"


def test_a_failing_set_can_be_run_again_by_its_line(run_suites: RunSuites) -> None:
    """Writes of the copy engine that vanish: a set of reads and of the host's copies would pass."""
    args = (SUITE, "--rig=virtual:pcie-pair", "--plant=peer-writes-dropped")
    first = run_suites(*args, "-k", "copies_at_once", "--sweep-seed=2", "--sweep-count=6")
    failed = [test for test in first.record.tests if test.outcome == "failed"]
    assert failed, first.output
    assert {"passed", "failed"} == set(first.outcomes.values()), "sets that write to no peer must pass"
    match = re.search(r"--sweep='([^']+)'", failed[0].message)
    assert match is not None, failed[0].message
    again = run_suites(*args, "-k", "copies_at_once", f"--sweep={match[1]}")
    assert list(again.outcomes.values()) == ["failed"], again.output
    assert again.signatures == {"peer-writes-dropped"}


def test_a_line_of_no_copy_stops_the_run(run_suites: RunSuites) -> None:
    run = run_suites(SUITE, "--rig=virtual:pcie-pair", "--sweep=gpu0 gpu7:ce gpu1 1024")
    assert run.status == 2
    assert "gpu7" in run.output
    assert "Traceback" not in run.output


def test_peer_access_that_is_slower_than_staging_is_seen_in_the_matrix(run_suites: RunSuites) -> None:
    args = (SUITE, "--rig=virtual:pcie-pair", "-k", "off_and_on")
    run = run_suites(*args)
    assert run.status == 0, run.output
    figures = {(line.source, line.target, line.peer) for line in run.record.measurements}
    assert figures == {(*ends, peer) for ends in (("gpu0", "gpu1"), ("gpu1", "gpu0")) for peer in (False, True)}
    slow = run_suites(*args, "--plant=p2p-slower-than-host")
    assert slow.status == 1
    assert slow.signatures == {"p2p-slower-than-host"}, slow.output
