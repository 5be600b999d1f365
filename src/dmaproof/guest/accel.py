"""Whether KVM can run a lab's kernel. Opening /dev/kvm and making a machine is no proof: nested or emulated KVM may do
both and never get through a kernel's start. So one is tried, once a boot of this system.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import platformdirs

from dmaproof.guest.kernel import Kernel
from dmaproof.guest.program import Program

_DEVICE, _BOOT_ID = Path("/dev/kvm"), Path("/proc/sys/kernel/random/boot_id")
_TRIAL_S, _SILENCE_S = 90.0, 15.0
"""A KVM that does not work says nothing at all; one on an emulated processor (a guest on a lab host) takes its time."""
_REACHED = b"Kernel panic"  # with no root file system, a kernel that starts gets exactly this far
_POLL_S = 0.05
_YES = "yes"
_TRIAL = (
    *("-nodefaults", "-no-reboot", "-display", "none"),
    *("-machine", "q35,accel=kvm,kernel-irqchip=split", "-cpu", "host", "-m", "512M"),
    *("-append", "console=ttyS0 earlyprintk=serial,ttyS0 loglevel=7 panic=-1"),
)


def works(kernel: Kernel, program: Program, arch: str) -> bool:
    """Whether ``kernel`` starts under KVM here. The answer is kept until this system boots anew, where it can be.

    False for all but x86_64: the lab's arm64 machine has a processor that is only emulated (dmaproof.guest.topology).
    """
    if not arch == platform.machine() == "x86_64" or not os.access(_DEVICE, os.R_OK | os.W_OK):
        return False
    kept = _kept(kernel, program)
    with suppress(OSError):
        return kept.read_text(encoding="utf-8") == _YES
    answer = _try(kernel, program)
    with suppress(OSError):  # a lab host has its root read-only
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(_YES if answer else "no", encoding="utf-8")
    return answer


def _kept(kernel: Kernel, program: Program) -> Path:
    asked = f"{_BOOT_ID.read_text().strip()} {kernel.path} {kernel.release} {program.version}"
    name = hashlib.sha256(asked.encode()).hexdigest()[:16]
    return platformdirs.user_cache_path("dmaproof") / "lab" / "kvm" / name


def _try(kernel: Kernel, program: Program) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        console = Path(folder, "console")
        options = [*_TRIAL, "-kernel", str(kernel.path), "-serial", f"file:{console}"]
        trial = subprocess.Popen(
            [*program.argv, *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            _await_rest(trial, console)
            return console.exists() and _REACHED in console.read_bytes()
        finally:
            trial.kill()
            trial.wait(5)


def _await_rest(trial: subprocess.Popen[bytes], console: Path) -> None:
    """Until ``trial`` has ended or has said nothing more for a while."""
    end = time.monotonic() + _TRIAL_S
    said_nbytes, until = 0, time.monotonic() + _SILENCE_S
    while time.monotonic() < min(until, end) and trial.poll() is None:
        time.sleep(_POLL_S)
        nbytes = console.stat().st_size if console.exists() else 0
        if nbytes > said_nbytes:
            said_nbytes, until = nbytes, time.monotonic() + _SILENCE_S
