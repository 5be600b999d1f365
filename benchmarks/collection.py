"""Collection of a 72-GPU rig, beside plain pytest collecting as many parameters that mean nothing."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from benchmarks.figure import Figure, command, timed_command

GPUS = 72


def nvl72() -> str:
    """A rig file that declares 72 GPUs which all reach each other."""
    head = 'name = "nvl72"\nkind = "virtual"\n[node.host]\naddressing = "ats"\npath = [\n'
    head += '{ source = "gpu*", target = "gpu*", kind = "nvlink", bandwidth_GBps = 700.0, peer = true },\n'
    head += '{ source = "host", target = "gpu*", kind = "c2c", bandwidth_GBps = 200.0 } ]\n'
    return head + "".join(f'[node.host.gpu.gpu{i}]\nbdf = "{i:04x}:01:00.0"\n' for i in range(GPUS))


PLAIN = """
import pytest
@pytest.mark.parametrize("number", range({count}))
def test_nothing(number): pass
"""


def run() -> list[Figure]:
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        rig = Path(folder, "nvl72.toml")
        rig.write_text(nvl72())
        for pairs, goal in (("auto", 3.0), ("all", None)):
            args = ("-m", "pytest", "suites", "--collect-only", "-q", "-q", f"--rig={rig}", f"--pairs={pairs}")
            count = _collected(*args)
            figures.append(
                Figure(
                    f"collect {GPUS} GPUs, --pairs={pairs}",
                    "s",
                    timed_command(*args, repeat=3),
                    goal,
                    f"{count} tests",
                )
            )
            plain = Path(folder, f"test_plain_{pairs}.py")
            plain.write_text(PLAIN.format(count=count))
            args = ("-m", "pytest", "-c", "/dev/null", "--collect-only", "-q", "-q", str(plain))
            figures.append(Figure(f"plain pytest, {count} parameters", "s", timed_command(*args, repeat=3)))
    return figures


def _collected(*args: str) -> int:
    out = command(*args, "-p", "no:cacheprovider").stdout
    return sum(int(count) for count in re.findall(r": (\d+)$", out, re.MULTILINE))
