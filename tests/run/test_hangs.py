"""Workloads that really hang, in whole runs: the run goes on, the report is whole, the record says what happened."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.run.conftest import Finished, RunSuites
from tests.support.fuse import Unavailable, serve

PLUGIN = ("-p", "tests.run.plugins.hanging_workload", "--deadline-scale=0.5")
CHOICE = ("suites/p2p", "--rig=virtual:pcie-pair", "-k", "test_local_copy")


def hang_of(run: Finished) -> dict[str, Any]:
    """What the ladder captured of the run's one hang, after checking that everything about the run is whole."""
    assert run.status == 1, run.output
    assert run.record.whole
    assert run.folder is not None
    assert (run.folder / "report.html").is_file()
    assert len(list(ET.parse(run.folder / "junit.xml").getroot().iter("testcase"))) == len(run.record.tests) == 4
    assert {test: outcome for test, outcome in run.outcomes.items() if "gpu1" in test and outcome != "passed"} == {}
    (file,) = (run.folder / "evidence").glob("*.hang.json")
    (hung,) = [line for line in run.record.evidence if line.what == "hang"]
    assert file.name in hung.text
    (verdict, *_) = [one for one in run.record.verdicts if one.test == hung.test]
    assert verdict.signature == "unattributed-hang"
    captured: dict[str, Any] = json.loads(file.read_text())
    return captured


@pytest.mark.parametrize("name", ["mutex_deadlock", "spin_holding_the_gil"])
def test_a_hang_that_can_be_killed(name: str, run_suites: RunSuites, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMAPROOF_TEST_HANG", name)
    run = run_suites(*CHOICE, *PLUGIN)
    hang = hang_of(run)
    assert hang["ended"] == "SIGTERM"
    assert f"in {name}" in hang["python_stacks"]
    assert [line.state for line in run.record.devices] == ["fit"]
    assert [outcome for test, outcome in run.outcomes.items() if "gpu0-sm" in test] == ["passed"]


def test_a_hang_in_d_state(tmp_path: Path, run_suites: RunSuites, monkeypatch: pytest.MonkeyPatch) -> None:
    mount = tmp_path / "mnt"
    mount.mkdir()
    monkeypatch.setenv("DMAPROOF_TEST_HANG", f"read_file:{mount / 'never'}")
    try:
        with serve(mount, {"never": lambda _offset, _size: None}):
            run = run_suites(*CHOICE, *PLUGIN)
    except Unavailable as reason:
        pytest.skip(str(reason))
    hang = hang_of(run)
    assert hang["ended"] == "unkillable"
    assert any(task["state"] == "D" for task in hang["tasks_stuck"])
    assert {line.state for line in run.record.devices} == {"poisoned"}
    (after,) = [test for test in run.record.tests if "gpu0-sm" in test.id]
    assert after.outcome == "failed"
    assert "held by unkillable process" in after.message or "not fit for use" in after.message
