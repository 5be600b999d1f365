"""Figures that are not as they should be: found in a run by their peers, by physics, by a baseline; told everywhere."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from dmaproof.rig import load
from tests.run.conftest import Finished, RunSuites

PEERS = "peer_copy_reaches_link_rate and ce"
HOST_COPIES = "host_copy_reaches_link_rate and ce"


@pytest.fixture
def undeclared(tmp_path: Path) -> Path:
    """Eight H100 of which nothing is claimed but what is linked to what."""
    text = re.sub(r", (bandwidth_GBps|latency_ns) = [\d.]+", "", load.dump(load.load("virtual:hgx-h100")))
    text = re.sub(r"^(bandwidth_GBps|latency_ns) = .*\n", "", text, flags=re.MULTILINE)
    rig = tmp_path / "undeclared.toml"
    rig.write_text(text.replace('name = "hgx-h100"', 'name = "undeclared"'))
    assert all(path.bandwidth_GBps is None for path in load.load(str(rig)).first.path)
    return rig


def low(run: Finished, by: str) -> set[tuple[str, str]]:
    return {(one.source, one.target) for one in run.record.judgements if one.by == by and one.standing == "low"}


def test_one_gpus_pairs_are_found_by_their_peers_alone(undeclared: Path, run_suites: RunSuites) -> None:
    run = run_suites("suites/p2p", f"--rig={undeclared}", "--plant=nvlink-degraded", "-k", PEERS)
    assert run.status == 1, run.output
    assert set(run.outcomes.values()) == {"passed"}, "no test can know"
    others = [f"gpu{at}" for at in range(7)]
    assert low(run, "peers") == {("gpu7", one) for one in others} | {(one, "gpu7") for one in others}
    worst = next(one for one in run.record.judgements if one.standing == "low")
    assert (worst.reason, worst.certain, worst.among) == ("degraded-link", True, 56)
    assert "9 of 18 NVLinks of gpu7 are up" in worst.text
    assert "14 figures are not as they should be" in run.output
    assert "degraded-link (peers): " in run.output
    assert run.folder is not None
    assert "9 of 18 NVLinks of gpu7 are up" in (run.folder / "report.html").read_text()
    told = [one.get("value") for one in ET.parse(run.folder / "junit.xml").getroot().iter("property")]
    assert sum("degraded-link: " in str(one) for one in told) == 14


def test_a_link_without_its_lanes_fails_its_own_tests_by_physics(undeclared: Path, run_suites: RunSuites) -> None:
    run = run_suites("suites/p2p", f"--rig={undeclared}", "--plant=pcie-link-degraded", "-k", HOST_COPIES)
    assert run.status == 1, run.output
    failed = {test for test, outcome in run.outcomes.items() if outcome == "failed"}
    assert len(failed) == 2
    assert all("gpu0" in test for test in failed)
    assert low(run, "physical") == low(run, "peers") == {("host", "gpu0"), ("gpu0", "host")}
    assert "the PCIe link of gpu0 runs at generation 5 x4 of generation 5 x16" in run.output
    assert run.signatures == {"pcie-link-degraded"}


def test_a_healthy_rig_of_undeclared_rates_names_nothing(undeclared: Path, run_suites: RunSuites) -> None:
    run = run_suites("suites/p2p", f"--rig={undeclared}", "-k", f"({PEERS} or {HOST_COPIES}) and not gpu6")
    assert run.status == 0, run.output
    assert {one.standing for one in run.record.judgements} == {"fine"}
    assert "not as they should be" not in run.output


def test_a_baseline_is_written_read_and_missed(tmp_path: Path, run_suites: RunSuites) -> None:
    folder = f"--baselines={tmp_path / 'baselines'}"
    choice = ("suites/p2p", "--rig=virtual:pcie-pair", "-k", "host_copy_reaches_link_rate and ce", folder)
    assert run_suites(*choice, "--update-baselines").status == 0
    (file,) = (tmp_path / "baselines").glob("*.json")
    assert file.name == "NVIDIA-RTX-A6000-595-virtual.json"
    assert run_suites(*choice).status == 0
    known = json.loads(file.read_text())
    for entry in known["entries"]:
        entry.update(median=entry["median"] * 1.2, least=entry["least"] * 1.2, most=entry["most"] * 1.2)
    file.write_text(json.dumps(known))
    run = run_suites(*choice)
    assert run.status == 1, run.output
    assert set(run.outcomes.values()) == {"failed"}
    assert len(low(run, "baseline")) == 4
    assert "the baseline of NVIDIA RTX A6000, driver 595, is 31.56 GB/s" in run.output
    again = run_suites(*choice, "--update-baselines")
    assert "nothing was put there" in again.output
    assert json.loads(file.read_text()) == known


def test_a_file_that_is_no_baseline_ends_the_run_before_it_begins(tmp_path: Path, run_suites: RunSuites) -> None:
    (tmp_path / "one.json").write_text('{"format": 1, "entries": [{}]}')
    run = run_suites("suites/p2p", "--rig=virtual:pcie-pair", f"--baselines={tmp_path}")
    assert run.status == 2
    assert "one.json is no baseline: entries.0." in run.output
    assert run.folder is None


def test_a_run_cut_short_is_judged_where_it_is_read(undeclared: Path, run_suites: RunSuites) -> None:
    run = run_suites("suites/p2p", f"--rig={undeclared}", "--plant=nvlink-degraded", "-k", PEERS)
    assert run.folder is not None
    record = run.folder / "record.jsonl"
    lines = [line for line in record.read_text().splitlines() if '"kind":"judgement"' not in line]
    record.write_text("\n".join(lines[:-1]) + "\n")
    from dmaproof.report import judged, stream

    found = judged.of_record(stream.read(record))
    assert sum(one.standing == "low" for one in found) == 14
