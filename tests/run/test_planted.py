"""Planted defects: the right tests fail, with the verdict of that name; the others pass."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.run.conftest import Finished, RunSuites

HASTE = "--deadline-scale=1.5"
"""What hangs here hangs for certain: half the time is enough to see it."""


def verdict_of(run: Finished, test: str) -> dict[str, str]:
    return {one.signature: one.confidence for one in run.record.verdicts if one.test == test}


def by_outcome(run: Finished, outcome: str) -> list[str]:
    return [test for test, found in run.outcomes.items() if found == outcome]


def test_the_mailbox(run_suites: RunSuites) -> None:
    choice = "(peer_write_lands and 1KiB) or test_local_copy or first_touch or topology or iommu"
    run = run_suites("suites", "--rig=virtual:pcie-pair", "--plant=iommu-blocks-p2p-mailbox", "-k", choice, HASTE)
    assert run.status == 1, run.output
    failed = by_outcome(run, "failed")
    assert len(failed) == 4
    assert all("peer_write_lands" in test for test in failed)
    for test in failed:
        assert list(verdict_of(run, test)) == ["iommu-blocks-p2p-mailbox"], run.output
    assert "certain" in verdict_of(run, failed[0]).values()
    assert {"hang", "stack", "nvml-state", "iommu-state", "iommu-fault"} <= {one.what for one in run.record.evidence}
    assert "BAR0+0x139000 of 0000:82:00.0" in run.output


@pytest.mark.parametrize("rig", ["virtual:pcie-pair", "virtual:pcie-pair-amd", "virtual:smmu-pair"])
def test_memory_that_is_unmapped_too_early(rig: str, run_suites: RunSuites) -> None:
    choice = "(peer_write_lands and 1KiB and (sm or ce)) or test_local_copy"
    run = run_suites("suites/p2p", f"--rig={rig}", "--plant=iommu-blocks-memory", "-k", choice)
    assert run.status == 1, run.output
    assert by_outcome(run, "failed")
    assert run.signatures == {"iommu-blocks-memory"}, run.output
    assert "is mapped that it may" in run.output
    assert not [test for test in by_outcome(run, "passed") if "peer_write_lands" in test]


def test_the_stage2_hole(run_suites: RunSuites) -> None:
    suites = ("suites/uvm/test_unified.py", "suites/uvm/test_atomics.py")
    choice = ("-k", "managed or malloc or shared_memory")
    run = run_suites(*suites, *choice, "--rig=virtual:gh200", "--plant=ats-stage2-hole", HASTE)
    assert run.status == 1, run.output
    failed = by_outcome(run, "failed")
    assert failed
    assert all("malloc" in test or "shared" in test for test in failed), failed
    assert run.signatures == {"ats-stage2-hole"}
    named = {test: verdict_of(run, test) for test in failed}
    sure = [test for test, verdicts in named.items() if verdicts == {"ats-stage2-hole": "certain"}]
    # A worker that a busy machine keeps from its end in time is killed, and the Xid of the cancelled fault is late.
    assert len(sure) > len(failed) / 2, named
    assert all(list(verdicts) == ["ats-stage2-hole"] for verdicts in named.values()), named
    assert "passed" in run.outcomes.values()


@pytest.mark.parametrize("rig", ["virtual:pcie-pair", "virtual:guest-pair"])
def test_the_lost_gpu(rig: str, run_suites: RunSuites) -> None:
    run = run_suites(
        "suites/p2p", f"--rig={rig}", "--plant=gpu-lost", "-k", "test_local_copy or (peer_write_lands and 1KiB)"
    )
    assert run.status == 1, run.output
    failed = by_outcome(run, "failed")
    passed = by_outcome(run, "passed")
    assert failed
    assert all("gpu1" in test for test in failed)
    assert all("gpu1" not in test for test in passed)
    assert passed
    assert run.signatures == {"gpu-lost"}
    lost = [line for line in run.record.devices if line.bdf.endswith(("82:00.0", "02:00.0"))]
    assert [line.state for line in lost] == ["poisoned"], "a GPU that is known to be unfit is not probed again"


def test_the_hang_that_nothing_explains(run_suites: RunSuites) -> None:
    run = run_suites(
        "suites/p2p", "--rig=virtual:pcie-pair", "--plant=unattributed-hang", "-k", "test_local_copy and ce", HASTE
    )
    assert run.status == 1, run.output
    (failed,) = by_outcome(run, "failed")
    assert "gpu0" in failed
    assert list(verdict_of(run, failed)) == ["unattributed-hang"]
    (verdict,) = run.record.verdicts
    assert "looked at" in verdict.summary
    assert any("thread" in text for text in verdict.evidence)


THREE = """
extends = "virtual:pcie-pair"
name = "pcie-three"
kind = "virtual"
[node.host.gpu.gpu2]
bdf = "0000:83:00.0"
port = "0000:80:03.0"
[[node.host.gpu.gpu2.bars]]
index = 0
address = 0xfa000000
nbytes = 0x1000000
[[node.host.gpu.gpu2.bars]]
index = 1
address = 0x3a0000000000
nbytes = 0x10000000
"""


def test_two_defects_are_both_named(tmp_path: Path, run_suites: RunSuites) -> None:
    """The third GPU falls off the bus; the first two still meet the mailbox."""
    rig = tmp_path / "three.toml"
    rig.write_text(THREE)
    plants = "iommu-blocks-p2p-mailbox,gpu-lost"
    choice = "test_local_copy and gpu2 and ce or peer_write_lands and 1KiB and gpu0-gpu1-ce"
    run = run_suites("suites/p2p", f"--rig={rig}", f"--plant={plants}", "-k", choice, HASTE)
    named = {one.test.partition("[")[2]: one.signature for one in run.record.verdicts}
    assert named == {
        "host-gpu2-ce]": "gpu-lost",
        "host-gpu0-gpu1-ce-1KiB]": "iommu-blocks-p2p-mailbox",
    }, run.output


def test_the_verdict_is_in_every_report(run_suites: RunSuites) -> None:
    choice = "peer_write_lands and 1KiB and gpu0-gpu1 and ce"
    run = run_suites("suites/p2p", "--rig=virtual:pcie-pair", "--plant=iommu-blocks-p2p-mailbox", "-k", choice, HASTE)
    assert run.folder is not None
    (case,) = ET.parse(run.folder / "junit.xml").getroot().iter("testcase")
    told = {one.get("name"): one.get("value") for one in case.iter("property")}
    assert told["verdict"] == "iommu-blocks-p2p-mailbox"
    assert told["verdict_confidence"] == "certain"
    (failure,) = case.iter("failure")
    assert str(failure.get("message")).startswith("iommu-blocks-p2p-mailbox (certain): ")
    assert "DMAR" in "".join(out.text or "" for out in case.iter("system-out"))
    page = (run.folder / "report.html").read_text()
    assert "iommu-blocks-p2p-mailbox" in page
    assert "fault addr 0xf8139000" in page
    assert list((run.folder / "evidence").glob("*.hang.json"))


ONE_WAY = {"test_memory_kinds", "test_peer_lifetime"}
"""These write from gpu0 to gpu1 alone."""


@pytest.mark.parametrize(
    ("plant", "meets_it"),
    [
        ("peer-mirror@0", {"test_graphs", "test_integrity", "test_ordering", "test_sweep"} | ONE_WAY),
        ("peer-writes-dropped@1", {"test_graphs", "test_integrity", "test_ordering", "test_sweep"}),
    ],
    ids=["gpu0-to-gpu1", "gpu1-to-gpu0"],
)
def test_whatever_meets_a_sick_pair_names_it(plant: str, meets_it: set[str], run_suites: RunSuites) -> None:
    """Every test of writes between peers: whichever is met first, on whichever way, is to tell triage what it saw."""
    choice = ("-k", "not gibibyte and not nvbandwidth and not every_size")
    run = run_suites("suites/p2p", "--rig=virtual:pcie-pair", f"--plant={plant}", *choice, "--deadline-scale=5")
    failed = by_outcome(run, "failed")
    assert {Path(test.partition("::")[0]).stem for test in failed} == meets_it
    signature = plant.partition("@")[0]
    assert {test: list(verdict_of(run, test)) for test in failed} == {test: [signature] for test in failed}


def test_large_copies_into_a_mirror_end_in_time(run_suites: RunSuites) -> None:
    choice = "copies_of_every_size or device_to_device_memcpy_write_ce"
    run = run_suites("suites/p2p", "--rig=virtual:pcie-pair", "--plant=peer-mirror", "-k", choice, "--deadline-scale=3")
    assert run.signatures == {"peer-mirror"}, run.output
    assert len(by_outcome(run, "failed")) == 2


def test_a_fault_of_a_process_that_a_workload_started_is_the_tests_own(run_suites: RunSuites) -> None:
    """Memory of another process is filled by a kernel of that process: the log names it, not the worker."""
    choice = ("-k", "every_kind_is_written and ipc")
    run = run_suites("suites/p2p", *choice, "--rig=virtual:pcie-pair", "--plant=application-fault@3", HASTE)
    (failed,) = by_outcome(run, "failed")
    assert verdict_of(run, failed) == {"application-fault": "certain"}, run.output
    assert "ExporterLost" in run.output
