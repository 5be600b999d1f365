"""Workloads that kill what a node or a guest hangs on, and whose process they are of."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Literal

Victim = Literal["QEMU", "worker"]


def kill(victim: Victim) -> int:
    """Kill the QEMU of a guest on this system, or the worker that keeps it; the number of the process."""
    (pid,) = [int(one.name) for one in Path("/proc").glob("[0-9]*") if b"\0vfio-pci,host=" in _text(one / "cmdline")]
    if victim == "worker":
        pid = int(_text(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()[1])
    os.kill(pid, signal.SIGKILL)
    return pid


def kill_agent() -> int:
    """Kill the process of the agent that this is a worker of."""
    os.kill(os.getppid(), signal.SIGKILL)
    return 0


def _text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
