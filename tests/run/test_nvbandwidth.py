"""The cases of nvbandwidth on a small virtual rig, and their JSON as a run leaves it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.run.conftest import RunSuites

SUITE = "suites/p2p/test_nvbandwidth.py"


def test_cases_give_nvbandwidths_json(run_suites: RunSuites, tmp_path: Path) -> None:
    """The modelled clock makes every rate that of its link."""
    out = tmp_path / "out.json"
    chosen = "device_to_device_memcpy or host_to_device_memcpy_ce or device_local_copy_tma or device_to_device_latency"
    run = run_suites(SUITE, "--rig=virtual:pcie-pair", "-k", chosen, f"--nvbandwidth-json={out}")
    assert run.status == 0, run.output
    told = json.loads(out.read_text())["nvbandwidth"]
    cases = {one["name"]: one for one in told["testcases"]}
    assert "proves the suite" in told["warning"]
    rate = pytest.approx(21.8, rel=1e-3)
    for name in ("device_to_device_memcpy_write_ce", "device_to_device_memcpy_read_sm"):
        (none, there), (back, other) = cases[name]["bandwidth_matrix"]
        assert [none, float(there), float(back), other] == ["N/A", rate, rate, "N/A"]
        assert cases[name]["sum"] == pytest.approx(2 * 21.8, rel=1e-3)
        assert cases[name]["status"] == "Passed"
    assert cases["device_local_copy_tma"]["status"] == "Waived"
    assert "compute capability 9.0" in cases["device_local_copy_tma"]["reason"]
    assert set(run.outcomes.values()) == {"passed", "skipped"}


def test_a_case_whose_data_is_wrong_is_an_error_that_names_the_cell(run_suites: RunSuites, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    chosen = "device_to_device_memcpy_write_ce"
    plant = "--plant=peer-writes-dropped"
    run = run_suites(SUITE, "--rig=virtual:pcie-pair", "-k", chosen, plant, f"--nvbandwidth-json={out}")
    assert run.status == 1, run.output
    assert run.signatures == {"peer-writes-dropped"}, run.output
    (case,) = json.loads(out.read_text())["nvbandwidth"]["testcases"]
    assert case["status"] == "Error"
    assert "0000:04:00.0" in case["error"]
    assert "words wrong" in case["error"]


def test_a_hang_names_the_cell(run_suites: RunSuites) -> None:
    """No longer deadlines: the hang is the point."""
    chosen = "device_to_device_memcpy_write_sm"
    plant = "--plant=iommu-blocks-p2p-mailbox"
    run = run_suites(SUITE, "--rig=virtual:pcie-pair", "-k", chosen, plant)
    (test,) = run.record.tests
    assert test.outcome == "failed"
    assert "did not return within" in test.message
    assert "copy by sm, 0000:04:00.0 to 0000:82:00.0" in test.message
    assert run.signatures == {"iommu-blocks-p2p-mailbox"}


def test_a_bad_path_stops_the_run_before_it_begins(run_suites: RunSuites, tmp_path: Path) -> None:
    run = run_suites(SUITE, "--rig=virtual:pcie-pair", f"--nvbandwidth-json={tmp_path}/no/out.json")
    assert run.status == 2
    assert "there is no folder" in run.output
    assert run.folder is None
