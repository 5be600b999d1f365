"""A whole qualification run of virtual:hgx-h100 on one process and on two, and the library's own tests."""

from __future__ import annotations

import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from benchmarks.figure import Figure, timed_command

GOAL_S, TESTS_GOAL_S = 90.0, 240.0


def run() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        alone, one = _suites(Path(folder), "alone")
        shared, two = _suites(Path(folder), "shared", "-n", "2")
    tests = timed_command("-m", "pytest", "tests", "-q", "-n", "2", repeat=1)
    return [
        Figure("suites on virtual:hgx-h100", "s", alone, GOAL_S, f"{len(one)} tests"),
        Figure("suites on virtual:hgx-h100, -n 2", "s", shared, GOAL_S, _sameness(one == two)),
        Figure("the library's own tests, -n 2", "s", tests, TESTS_GOAL_S),
    ]


def _suites(folder: Path, name: str, *extra: str) -> tuple[list[float], dict[str, str]]:
    junit = folder / f"{name}.xml"
    args = ("-m", "pytest", "suites", "--rig=virtual:hgx-h100", "-q", f"--reports={folder}", f"--junitxml={junit}")
    return timed_command(*args, *extra, repeat=1), _outcomes(junit)


def _sameness(same: bool) -> str:
    return "same outcomes as on one process" if same else "OUTCOMES DIFFER from one process"


def _outcomes(junit: Path) -> dict[str, str]:
    """Each test with its outcome, whatever its order in the file."""
    cases = ET.parse(junit).getroot().iter("testcase")  # noqa: S314 - written by pytest a moment ago
    return {f"{case.get('classname')}::{case.get('name')}": _outcome(case) for case in cases}


def _outcome(case: ET.Element) -> str:
    return next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed")
