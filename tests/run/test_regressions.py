"""The README's table of field failures, and selecting by their names."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from fixtures import regressions
from tests.run.conftest import ROOT


def test_every_regression_has_a_test_or_says_what_catches_it_and_every_mark_is_a_regression() -> None:
    marked = dict(regressions.marks(ROOT / "suites"))
    untested = {name for name, regression in regressions.REGRESSIONS.items() if regression.instead}
    assert set(marked) | untested == set(regressions.REGRESSIONS)
    assert not set(marked) & untested, "a test catches it: say no more what does instead"


def test_every_field_failure_that_is_known_has_a_name_here() -> None:
    sheet = ROOT.parent / "shared/facts/field-failures.md"
    if not sheet.exists():
        pytest.skip("the sheet of field failures is not there")
    known = set(re.findall(r"^\| `(\w+)` \|", sheet.read_text(), re.MULTILINE))
    assert known
    assert known <= set(regressions.REGRESSIONS)


def test_the_table_in_the_readme_is_the_generated_one() -> None:
    readme = (ROOT / "README.md").read_text()
    assert regressions.put_into(readme) == readme, "run: python -m fixtures.regressions --write"
    assert "`pytest suites -k mirror`" in readme


def test_a_name_selects_just_its_tests() -> None:
    args = ["-m", "pytest", "suites", "--rig=virtual:guest-pair", "--collect-only", "-q", "-k", "slower_than_host"]
    listed = subprocess.run([sys.executable, *args], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    tests = [line for line in listed.stdout.splitlines() if "::" in line]
    assert {line.partition("[")[0].rpartition(":")[2] for line in tests} == set(
        dict(regressions.marks(ROOT / "suites"))["slower_than_host"]
    )
