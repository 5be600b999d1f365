"""A lab host from the command to its first word, beside virtme-ng's own boot of the same kernel on the same QEMU; the
suites on one; and a guest on one, from the command to the first result in it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.figure import ROOT, Figure
from dmaproof.errors import UsageError
from dmaproof.guest import accel, kernel, program
from dmaproof.guest.kernel import Kernel
from dmaproof.guest.program import Program

BOOT_GOAL_S, SUITES_GOAL_S, GUEST_GOAL_S = 10.0, 120.0, 60.0
_RIG, _GUESTS, _GUEST = "lab:vtd", "lab:guests", "guest-iommufd"
_WORD = "first-word"
_REPEAT = 5
_TIMEOUT_S = 1200.0


def boot() -> list[Figure]:
    """By turns, so that whatever else the machine does meets both alike."""
    return _with_a_lab(_boot)


def suites() -> list[Figure]:
    """One run, of minutes."""
    return _with_a_lab(_suites)


def guest() -> list[Figure]:
    """Lab host, guest and its first test."""
    return _with_a_lab(_guest)


def _with_a_lab(measure: Callable[[Kernel, Program], list[Figure]]) -> list[Figure]:
    try:
        image, qemu = kernel.choose("own", "x86_64"), program.choose(program.AUTO, "x86_64")
    except UsageError as lacking:
        print(f"not run: {lacking}", file=sys.stderr)
        return []
    return measure(image, qemu)


def _boot(image: Kernel, qemu: Program) -> list[Figure]:
    accelerated = accel.works(image, qemu, "x86_64")
    ours, theirs = _ours(), _virtmes(image, qemu, accelerated)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # vng looks for virtme-run
    pairs = [(_until(_is_word, ours), _until(_is_word, theirs, {"PATH": path})) for _ in range(_REPEAT)]
    how = f"Linux {image.release}, QEMU {qemu.version}, {'KVM' if accelerated else 'processor emulated'}"
    own, plain = zip(*pairs, strict=True)
    return [
        Figure(f"{_RIG}: command to first workload result", "s", own, BOOT_GOAL_S, f"with VT-d and endpoints; {how}"),
        Figure("vng --exec: command to first output", "s", plain, note="no IOMMU, no endpoints; the same"),
    ]


def _ours() -> list[str]:
    start = "from dmaproof.cli import main; main()"
    return [sys.executable, "-c", start, "lab", "boot", _RIG, "--", "echo", _WORD]


def _virtmes(image: Kernel, qemu: Program, accelerated: bool) -> list[str]:
    """-v, because the fast ways out of the machine need udev in it; 9p and as much of a machine as ours."""
    return [
        *(str(Path(sys.executable).with_name("vng")), "--disable-microvm", "--force-9p", "-v"),
        *([] if accelerated else ["--disable-kvm"]),
        *("--qemu", qemu.argv[0], "--run", str(image.path), "--memory", "2G", "--cpus", "2"),
        *("--exec", f"echo {_WORD}"),
    ]


def _is_word(line: str) -> bool:
    return line.strip() == _WORD


def _until(reached: Callable[[str], bool], command: Sequence[str], env: Mapping[str, str] | None = None) -> float:
    """Seconds until ``command`` has printed a line that ``reached`` accepts; it is then let end."""
    with tempfile.TemporaryDirectory() as scratch:  # virtme-ng leaves files there
        began_s = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **(env or {}), "TMPDIR": scratch},
        )
        with process:
            assert process.stdout is not None
            said = []
            for line in process.stdout:
                said.append(line)
                if reached(line):
                    seconds = time.perf_counter() - began_s
                    process.communicate(timeout=_TIMEOUT_S)
                    return seconds
    raise RuntimeError(f"{' '.join(command)} ended before the line that was waited for: {''.join(said[-20:])}")


def _guest(image: Kernel, qemu: Program) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "pytest", "suites/iommu/test_peer_dma.py", "-v", "-k", "peer_write"),
            *(f"--rig={_GUESTS}", f"--modes={_GUEST}", "-p", "no:cacheprovider", f"--reports={folder}"),
        ]
        seconds = _until(lambda line: "PASSED" in line, command, {"PYTHONUNBUFFERED": "1"})
    how = f"Linux {image.release} on QEMU {qemu.version}, in a lab host of the same"
    return [Figure(f"{_GUESTS} {_GUEST}: command to first test passed", "s", [seconds], GUEST_GOAL_S, how)]


def _suites(image: Kernel, _qemu: Program) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        args = ["-m", "pytest", "suites", f"--rig={_RIG}", "-q", "-p", "no:cacheprovider", f"--reports={folder}"]
        began_s = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *args], cwd=ROOT, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
        seconds = time.perf_counter() - began_s
    last = (done.stdout.strip().splitlines() or ["nothing said"])[-1]
    return [Figure(f"suites on {_RIG}", "s", [seconds], SUITES_GOAL_S, f"{last}; Linux {image.release}")]
