"""Workloads that kill what a node or a guest hangs on, and whose process they are of."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Literal

_STEP_S = 0.1
Victim = Literal["QEMU", "worker"]


def kill(victim: Victim) -> int:
    """Kill the QEMU of a guest on this system, or the worker that keeps it; the number of the process."""
    (pid,) = [int(one.name) for one in Path("/proc").glob("[0-9]*") if b"\0vfio-pci,host=" in _text(one / "cmdline")]
    if victim == "worker":
        pid = int(_text(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()[1])
    os.kill(pid, signal.SIGKILL)
    return pid


def running() -> tuple[str, ...]:
    """The command lines of what makes a guest on this system: of QEMU, and of the ssh that waits for the guest."""
    lines = [_text(path / "cmdline") for path in Path("/proc").glob("[0-9]*")]
    return tuple(
        line.replace(b"\0", b" ").decode(errors="replace")
        for line in lines
        if line.startswith(b"ssh\0") or b"\0vfio-pci,host=" in line
    )


def kill_who_waits_for_ssh(within_s: float) -> tuple[str, ...]:
    """Kill the worker that keeps a guest, once it waits for the guest's SSH server; what was ``running``."""
    until = time.monotonic() + within_s
    found = running()
    while not any(line.startswith("ssh ") for line in found):
        assert time.monotonic() < until, f"no ssh is started: {found}"
        time.sleep(_STEP_S)
        found = running()
    kill("worker")
    return found


def kill_agent() -> int:
    """Kill the process of the agent that this is a worker of."""
    os.kill(os.getppid(), signal.SIGKILL)
    return 0


def _text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
