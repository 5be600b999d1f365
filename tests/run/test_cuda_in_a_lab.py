"""The CUDA suites on a lab host: the simulated driver under the real cuda-python, on a kernel that QEMU booted.

What runs on a GPU host and in a guest walks the same way here: workers, deadlines, locks, NVML, a record.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.lab import supplied

ROOT = Path(__file__).parent.parent.parent
PYTEST = (sys.executable, "-m", "pytest", "suites/p2p/test_integrity.py", "-k", "gpu0-gpu1-ce-1KiB")
OPTIONS = ("--rig=virtual:pcie-pair", "--reports=/tmp/reports", "--deadline-scale=60", "-p", "no:cacheprovider")
"""An emulated processor imports CUDA's bindings for 20 s."""
LAB_S = 500


def test_a_peer_copy_arrives_on_a_lab_host(tmp_path: Path) -> None:
    supplied()
    boot = (sys.executable, "-c", "from dmaproof.cli import main; main()", "lab", "boot", f"--timeout={LAB_S}")
    command = [*boot, "lab:vtd", "--", *PYTEST, *OPTIONS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LAB_S + 90, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert "test_peer_write_lands[host-gpu0-gpu1-ce-1KiB]" in done.stdout
