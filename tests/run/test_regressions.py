"""The README's table of field failures, and selecting by their names."""

from __future__ import annotations

import subprocess
import sys

from fixtures import regressions
from tests.run.conftest import ROOT


def test_every_regression_has_a_test_and_every_mark_is_a_regression() -> None:
    marked = dict(regressions.marks(ROOT / "suites"))
    assert set(marked) == set(regressions.REGRESSIONS)


def test_the_table_in_the_readme_is_the_generated_one() -> None:
    readme = (ROOT / "README.md").read_text()
    assert regressions.put_into(readme) == readme, "run: python -m fixtures.regressions --write"
    assert "`pytest suites -k mirror`" in readme


def test_a_name_selects_just_its_tests() -> None:
    args = ["-m", "pytest", "suites", "--rig=virtual:guest-pair", "--collect-only", "-q", "-k", "asymmetry"]
    listed = subprocess.run([sys.executable, *args], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    tests = [line for line in listed.stdout.splitlines() if "::" in line]
    assert tests == [
        f"suites/p2p/test_bandwidth.py::test_both_directions_at_once[guest-gpu0-gpu1-{engine}]"
        for engine in ("ce", "sm")
    ]
