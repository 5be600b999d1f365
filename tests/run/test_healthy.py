"""Healthy virtual rigs: everything passes, the figures are the profile's, and nothing is named."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from dmaproof.rig import load
from tests.run.conftest import Finished, RunSuites

LARGE = {"virtual:hgx-h100", "virtual:nvl72"}
_LARGE = 64 << 20
"""Bytes of a copy that takes so long that its latency does not count."""
PROFILES = [name for name in load.profile_ids() if name.startswith("virtual:") and name not in LARGE]


@pytest.mark.parametrize("name", PROFILES)
def test_a_healthy_rig_passes_and_names_nothing(name: str, run_suites: RunSuites) -> None:
    run = run_suites("suites", f"--rig={name}")
    assert run.status == 0, run.output
    assert run.record.whole
    assert run.folder is not None
    assert run.record.start.run.startswith(f"{run.folder.name}-"), "what a run holds must be traceable to its report"
    assert run.signatures == set()
    assert set(run.outcomes.values()) <= {"passed", "skipped"}
    assert "passed" in run.outcomes.values()
    assert "proves the suite, never a machine" in run.output
    assert_rates_are_the_profiles(run, name)
    assert {one.standing for one in run.record.judgements} <= {"fine"}


def test_a_sample_of_a_large_rig_says_what_it_covers(run_suites: RunSuites) -> None:
    choice = "peer_copy_reaches_link_rate and ce"
    run = run_suites("suites/p2p", "--rig=virtual:nvl72", "--sample=0.1%@7", "-k", choice)
    assert run.status == 0, run.output
    assert set(run.outcomes.values()) == {"passed"}
    assert len(run.outcomes) == 6
    told = "pairs on host: 6 of 5112 ordered pairs (0.1%); 6 of 72 GPUs as source, 6 as target; drawn with seed 7"
    assert told in run.output
    (covered,) = (one for one in run.record.evidence if one.what == "pair-coverage")
    assert covered.text.startswith(told)
    assert (covered.data["chosen"], covered.data["whole"], covered.data["seed"]) == (6, 5112, 7)
    assert_rates_are_the_profiles(run, "virtual:nvl72")


def test_the_rates_of_an_nvswitch_rig_are_the_profiles(run_suites: RunSuites) -> None:
    """The whole of this rig is the project's main job, and runs as that."""
    choice = "link_rate and (gpu0 or gpu-0)"
    run = run_suites("suites/p2p/test_bandwidth.py", "--rig=virtual:hgx-h100", "-k", choice)
    assert run.status == 0, run.output
    assert_rates_are_the_profiles(run, "virtual:hgx-h100")


def assert_rates_are_the_profiles(run: Finished, name: str) -> None:
    """A check of the measuring code: the modelled clock makes the link's rate exact."""
    node = load.load(name).nodes[0]
    one_way = [
        line
        for line in run.record.measurements
        if line.name == "bandwidth_GBps" and line.direction == "one" and line.peer is not False
    ]
    at_link_rate = [line for line in one_way if line.memory is None and (line.nbytes or _LARGE) >= _LARGE]
    assert at_link_rate
    for line in at_link_rate:
        path = node.path_between(str(line.source), str(line.target))
        assert path is not None
        assert line.median == pytest.approx(path.bandwidth_GBps, rel=1e-3), line


def test_two_processes_give_the_same_results(run_suites: RunSuites) -> None:
    choice = ("suites/p2p", "suites/iommu", "--rig=virtual:pcie-pair", "-k", "not 64MiB and not host_copy")
    alone, shared = run_suites(*choice), run_suites(*choice, "-n", "2")
    assert shared.status == 0, shared.output
    assert shared.outcomes == alone.outcomes
    assert shared.signatures == set()
    figures = [
        {(m.test, m.name): m.median for m in run.record.measurements if m.unit == "GB/s"} for run in (alone, shared)
    ]
    assert figures[0] == pytest.approx(figures[1], rel=1e-3)


def test_junit_says_what_was_tested(run_suites: RunSuites) -> None:
    run = run_suites("suites/p2p", "--rig=virtual:pcie-pair", "-k", "gpu0-gpu1 and reaches_link_rate")
    assert run.folder is not None
    suite = ET.parse(run.folder / "junit.xml").getroot()
    for case in suite.iter("testcase"):
        told = {one.get("name"): one.get("value") for one in case.iter("property")}
        assert told["rig"] == "virtual:pcie-pair"
        assert told["rig_kind"] == "virtual"
        assert told["node"] == "host"
        assert told["endpoints"] == "0000:04:00.0 0000:82:00.0"
        assert float(str(told["bandwidth_GBps"])) == pytest.approx(21.8, rel=1e-3)
    assert len(list(suite.iter("testcase"))) == 2


def test_what_a_rig_lacks_is_skipped_with_the_reason(run_suites: RunSuites) -> None:
    run = run_suites("suites/p2p", "suites/uvm", "--rig=virtual:gh200", "-k", "peer or first_touch")
    reasons = {test.message for test in run.record.tests if test.outcome == "skipped"}
    assert reasons == {"rig virtual:gh200 declares 1 GPU a node; this test needs 2"}
    pair = run_suites("suites/uvm", "--rig=virtual:pcie-pair", "-k", "malloc")
    (reason,) = {test.message for test in pair.record.tests}
    assert "declares addressing = 'none'" in reason
