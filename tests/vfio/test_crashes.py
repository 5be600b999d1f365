"""A process that takes functions from their drivers, killed at every step on a real kernel."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.lab import supplied

ROOT = Path(__file__).parents[2]
DRIVE, ENGINE = "0000:04:00.0", "0000:01:00.0"
"""One with a driver, one without; nobody drives an edu."""
OVERRIDE = f"echo nvme >/sys/bus/pci/devices/{DRIVE}/driver_override"
LAB_S = 400


def test_a_start_puts_back_what_a_crash_at_any_step_has_left() -> None:
    supplied()
    boot = (sys.executable, "-c", "from dmaproof.cli import main; main()", "lab", "boot", f"--timeout={LAB_S}")
    crashes = f"{OVERRIDE} && exec {sys.executable} -m tests.vfio.crashes {DRIVE} {ENGINE}"
    command = [*boot, "lab:vtd-vfio", "--", "sh", "-c", crashes]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LAB_S + 90, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["owners"] == {DRIVE: ["nvme", "nvme"], ENGINE: [None, None]}
    for work, fewest in (("binding", 40), ("replaying", 12)):
        assert told[work]["left"] == [], done.stdout + done.stderr
        assert told[work]["steps"] >= fewest
        assert told[work]["dirty"] > told[work]["steps"] // 2, "most steps are after something was changed"
