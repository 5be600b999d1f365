"""What the supervision of a run must not miss: faults beside the work, observers that die, rates too low."""

from __future__ import annotations

import os
import re
import signal
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from dmaproof.measurement import Measurement
from fixtures.choice import chosen_pairs
from fixtures.measure import reaches
from tests.run.conftest import RunSuites, Start, Started, assert_interrupted_with_reports


def test_a_fault_of_the_tests_gpu_fails_it_though_its_work_succeeded(run_suites: RunSuites) -> None:
    plugin = ("-p", "tests.run.plugins.stray_fault")
    run = run_suites("suites/p2p", "--rig=virtual:pcie-pair", "-k", "test_local_copy and ce", *plugin)
    outcomes = {test.id.partition("[")[2]: (test.outcome, test.message) for test in run.record.tests}
    assert outcomes["host-gpu0-ce]"][0] == "failed"
    assert outcomes["host-gpu0-ce]"][1].startswith("the test's own work succeeded, but meanwhile: DMAR: [DMA Write")
    assert outcomes["host-gpu1-ce]"][0] == "passed", "a fault of another GPU is none of its business"


@pytest.mark.parametrize(
    ("GBps", "engine", "reached"),
    [(361.0, "ce", True), (356.0, "ce", False), (301.0, "sm", True), (296.0, "sm", False)],
)
def test_a_slow_link_does_not_reach_its_rate(GBps: float, engine: str, reached: bool) -> None:  # noqa: N803
    measured = Measurement("bandwidth_GBps", "GB/s", (GBps, GBps, 1.0), "test")
    assert reaches(measured, 400.0, engine) is reached  # type: ignore[arg-type]
    assert reaches(measured, None, engine)  # type: ignore[arg-type]


@pytest.mark.parametrize(("nanoseconds", "reached"), [(10.0, True), (1240.0, True), (1260.0, False)])
def test_a_long_latency_does_not_reach_what_is_declared(nanoseconds: float, reached: bool) -> None:
    measured = Measurement("latency_ns", "ns", (nanoseconds,) * 3, "test")
    assert reaches(measured, 1000.0, "sm") is reached


def test_an_observer_that_dies_is_a_blind_spot_of_the_run(start: Start) -> None:
    started = start("suites/p2p", "--rig=virtual:pcie-pair", "-v", "-k", "copy or lands")
    started.wait_for("PASSED")
    (observer,) = _processes(started, "dmaproof.evidence.nvml_events")
    os.kill(observer, signal.SIGKILL)
    record = started.finish().record
    told = [line.text for line in record.evidence if line.test is None and line.what == "blind-spot"]
    assert any("NVML" in text for text in told), told


def test_a_worker_that_is_slow_to_start_is_no_hang(run_suites: RunSuites, tmp_path: Path) -> None:
    """As from a cold disk: 3 s for the process, where the rig leaves a workload 1.5 s."""
    slow = "import sys, time\nif 'dmaproof.node.worker_main' in sys.orig_argv:\n    time.sleep(3)\n"
    (tmp_path / "sitecustomize.py").write_text(slow)
    choice = ("--rig=virtual:pcie-pair", "-k", "test_local_copy and gpu0", "--deadline-scale=0.5")
    run = run_suites("suites/p2p", *choice, env={"PYTHONPATH": str(tmp_path)})
    assert run.status == 0, run.output


def test_after_a_failure_work_goes_on_in_a_fresh_process(run_suites: RunSuites) -> None:
    plugin = ("-p", "tests.run.plugins.worker_pids", "-s")
    run = run_suites("suites/p2p", "--rig=virtual:pcie-pair", "--plant=gpu-lost", "-k", "test_local_copy", *plugin)
    pids = [(test, int(pid)) for test, pid in re.findall(r"worker of \S+\[(\S+)\]: (\d+)", run.output)]
    outcomes = {test.partition("[")[2].rstrip("]"): outcome for test, outcome in run.outcomes.items()}
    assert len(pids) >= 2
    for (before, old), (_, new) in pairwise(pids):
        assert (old == new) == (outcomes[before] == "passed"), pids


def test_a_test_whose_process_dies_is_in_the_record(start: Start) -> None:
    started = start("suites/p2p", "--rig=virtual:pcie-pair", "-v", "-n", "1", "-k", "copy or lands")
    started.wait_for("PASSED")
    (child,) = _processes(started, "sys.stdin.readline")  # how execnet starts its interpreters
    os.kill(child, signal.SIGKILL)
    run = started.finish()
    assert run.status == 1
    (died,) = [test for test in run.record.tests if test.outcome == "error"]
    assert "crashed" in died.message
    assert run.record.whole


def test_a_junit_file_of_ones_own_is_written_and_kept_with_the_run(tmp_path: Path, run_suites: RunSuites) -> None:
    own = tmp_path / "own.xml"
    run = run_suites("suites/iommu", "--rig=virtual:gh200", f"--junitxml={own}")
    assert run.folder is not None
    assert own.read_bytes() == (run.folder / "junit.xml").read_bytes()
    assert len(list(ET.parse(own).getroot().iter("testcase"))) == len(run.record.tests)


def test_a_planted_defect_that_no_test_meets_is_no_pass(run_suites: RunSuites) -> None:
    run = run_suites(
        "suites/p2p", "--rig=virtual:pcie-pair", "--plant=gpu-lost", "-k", "test_local_copy and gpu0 and ce"
    )
    assert run.status == 1
    assert set(run.outcomes.values()) == {"passed"}


def test_terminated_by_a_scheduler(start: Start) -> None:
    started = start("suites/p2p", "--rig=virtual:pcie-pair", "-v")
    started.wait_for("PASSED")
    started.signal(signal.SIGTERM)
    run = started.finish()
    assert_interrupted_with_reports(run)


def test_pairs_of_a_small_rig_are_all_of_them() -> None:
    assert sorted(chosen_pairs(4, "auto")) == [(i, j) for i in range(4) for j in range(4) if i != j]
    assert list(chosen_pairs(1, "auto")) == []
    assert list(chosen_pairs(0, "all")) == []


@pytest.mark.parametrize(("count", "wanted", "partners"), [(72, "auto", 8), (72, "3", 3), (8, "2", 2), (8, "100", 7)])
def test_pairs_of_a_sample_use_every_gpu_equally_near_and_far(count: int, wanted: str, partners: int) -> None:
    pairs = list(chosen_pairs(count, wanted))
    assert len(set(pairs)) == len(pairs) == count * partners
    for gpu in range(count):
        assert sum(source == gpu for source, _ in pairs) == sum(target == gpu for _, target in pairs) == partners
    distances = {(target - source) % count for source, target in pairs}
    assert min(distances) == 1
    assert max(distances) >= count // 2


def _processes(started: Started, word: str) -> list[int]:
    """Processes of the run's session whose command line holds ``word``."""
    end = time.monotonic() + 10
    while not (found := list(_below(started.process.pid, word))) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def _below(parent: int, word: str) -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            above = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if above == parent and word.encode() in command:
            yield int(folder.name)
