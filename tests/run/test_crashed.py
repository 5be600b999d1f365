"""A run that comes after one that was killed puts back what that one had changed, on this very machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.run.conftest import RunSuites


@dataclass(frozen=True)
class Left:
    """A file that a run changed which was killed then, and the environment in which that is known."""

    file: Path
    env: Mapping[str, str]


@pytest.fixture
def left(tmp_path: Path) -> Left:
    file, folder = tmp_path / "setting", tmp_path / "bindings"
    file.write_text("ours")
    folder.mkdir()
    boot = {"boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(), "pid": 0}
    entry = {"kind": "setting", "path": str(file), "was": "theirs", "ours": "ours"}
    (folder / "1-1.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in (boot, entry)))
    return Left(file, {"DMAPROOF_BINDINGS": str(folder)})


def test_a_start_puts_back_what_a_killed_run_has_left(run_suites: RunSuites, left: Left) -> None:
    run = run_suites("suites/topology", "--rig=virtual:pcie-pair", "-k", "declared", env=left.env)
    assert run.status == 0, run.output
    assert f"put back, since an earlier run was killed: {left.file}: -> theirs" in run.output
    assert any("put back, since" in line.text for line in run.record.evidence)
    assert left.file.read_text() == "theirs"


def test_collecting_changes_nothing(run_suites: RunSuites, left: Left) -> None:
    run = run_suites("suites/topology", "--rig=virtual:pcie-pair", "--collect-only", "-q", env=left.env)
    assert run.status == 0, run.output
    assert left.file.read_text() == "ours"
