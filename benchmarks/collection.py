"""Collection of a 72-GPU rig, beside plain pytest collecting as many parameters that mean nothing."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from benchmarks.figure import Figure, command, timed_command

GPUS, RIG, GOAL_S = 72, "virtual:nvl72", 5.0
PLAIN = """
import pytest
@pytest.mark.parametrize("number", range({count}))
def test_nothing(number): pass
"""


def run() -> list[Figure]:
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for option, goal in (("--pairs=auto", GOAL_S), ("--sample=5%", GOAL_S), ("--pairs=all", None)):
            args = ("-m", "pytest", "suites", "--collect-only", "-q", "-q", f"--rig={RIG}", option)
            count = _collected(*args)
            figures.append(
                Figure(
                    f"collect {GPUS} GPUs, {option}",
                    "s",
                    timed_command(*args, repeat=3),
                    goal,
                    f"{count} tests",
                )
            )
            plain = Path(folder, f"test_plain_{count}.py")
            plain.write_text(PLAIN.format(count=count))
            args = ("-m", "pytest", "-c", "/dev/null", "--collect-only", "-q", "-q", str(plain))
            figures.append(Figure(f"plain pytest, {count} parameters", "s", timed_command(*args, repeat=3)))
    return figures


def _collected(*args: str) -> int:
    out = command(*args, "-p", "no:cacheprovider").stdout
    return sum(int(count) for count in re.findall(r": (\d+)$", out, re.MULTILINE))
