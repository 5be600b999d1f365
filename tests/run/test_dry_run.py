"""``--dry-run``: what the guests of a rig would change is said, and nothing is changed, run or left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.run.conftest import Left, RunSuites
from tests.support.lab import supplied

NOWHERE = "0000:7f:1f.7"
HOST = """
name = "mine"
kind = "host"
node.host.endpoint.edu0 = {{ kind = "edu", bdf = "{bdf}", port = "0000:7f:10.0" }}
node.one.role = "guest"
node.one.guest.on = "host"
node.one.endpoint.edu0 = {{ kind = "edu", bdf = "0000:01:00.0", port = "0000:00:10.0" }}
"""
LAB = """
extends = "lab:vtd-vfio"
name = "drives"
kind = "lab"
node.one.role = "guest"
node.one.guest.on = "host"
node.one.endpoint.nvme0 = { kind = "nvme", bdf = "0000:01:00.0", port = "0000:00:10.0" }
node.one.endpoint.edu0 = { kind = "edu", bdf = "0000:02:00.0", port = "0000:00:11.0" }
"""


@pytest.fixture
def bindings(tmp_path: Path) -> Path:
    """What a run of this boot has left that was killed after it gave a function to VFIO which is no more."""
    folder = tmp_path / "bindings"
    folder.mkdir()
    entry = {"kind": "binding", "bdf": NOWHERE, "driver": "nvme", "override": None, "ours": "vfio-pci"}
    boot = {"boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(), "pid": 0}
    (folder / "1-1.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in (boot, entry)))
    return folder


def test_a_rig_without_guests_says_so(run_suites: RunSuites) -> None:
    run = run_suites("suites", "--rig=virtual:pcie-pair", "--dry-run")
    assert run.status == 2
    assert "--dry-run says what making guests would change: of virtual:pcie-pair, there is none among " in run.output
    assert run.folder is None


def test_elsewhere_than_in_the_suites_it_runs_nothing(run_suites: RunSuites) -> None:
    run = run_suites("tests/vfio/test_plan.py", "--dry-run")
    assert run.status == 4
    assert "--dry-run is for a run of the suites" in run.output


def test_what_would_be_refused_fails(run_suites: RunSuites, tmp_path: Path, nothing_left: Left, bindings: Path) -> None:
    supplied(python=True)
    (tmp_path / "mine.toml").write_text(HOST.format(bdf=NOWHERE))
    env = {"DMAPROOF_BINDINGS": str(bindings)}
    run = run_suites("suites", f"--rig={tmp_path / 'mine.toml'}", "--dry-run", env=env)
    assert run.status == 1, run.output
    assert f"  refused: there is no PCI function {NOWHERE}" in run.output
    assert len([*bindings.glob("*.jsonl")]) == 1, "a dry run puts nothing back"
    assert run.folder is None
    assert nothing_left(run) == []


def test_of_a_lab_host_it_is_said_what_would_be_bound(
    run_suites: RunSuites, tmp_path: Path, nothing_left: Left
) -> None:
    supplied(python=True)
    supplied()
    (tmp_path / "drives.toml").write_text(LAB)
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    run = run_suites("suites", f"--rig={tmp_path / 'drives.toml'}", "--dry-run", env={"TMPDIR": str(scratch)})
    assert run.status == 0, run.output
    said = run.output.partition("one, on host:\n")[2].splitlines()
    assert said[:2] == ["  0000:04:00.0: nvme -> vfio-pci", "  0000:01:00.0: no driver -> vfio-pci"]
    assert said[2].startswith("  QEMU: ")
    assert "-device vfio-pci,host=0000:04:00.0," in said[2]
    assert "-accel " in said[2]
    assert "no tests ran" in run.output
    assert run.folder is None
    assert nothing_left(run) == []
    assert list(scratch.iterdir()) == []
