"""``--require-matrix``: a run in which everything passes, and which leaves out what a release needs, fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.run.conftest import RunSuites

CASE = ("suites/topology/test_declared.py", "--rig=virtual:pcie-pair")


@pytest.mark.parametrize(("suites", "status"), [(["topology"], 0), (["topology", "p2p"], 1)])
def test_what_is_required_must_have_been_run(
    run_suites: RunSuites, tmp_path: Path, suites: list[str], status: int
) -> None:
    file = tmp_path / "required.toml"
    file.write_text(f"[required]\nhost = {suites}\n")
    run = run_suites(*CASE, f"--require-matrix={file}")
    assert run.status == status, run.output
    assert ("dmaproof: required and not run: p2p in host (no test of it ran)" in run.output) == (status == 1)
    assert run.record.end is not None
    assert run.record.end.exit_status == status


def test_a_mode_that_the_rig_has_not_is_refused_before_anything_is_made(run_suites: RunSuites, tmp_path: Path) -> None:
    file = tmp_path / "required.toml"
    file.write_text("[required]\nguest = ['p2p']\n")
    run = run_suites(*CASE, f"--require-matrix={file}")
    assert run.status == 2
    assert "rig virtual:pcie-pair has no node 'guest'" in run.output
