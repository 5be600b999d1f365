"""NVML in a process of its own: its calls can block in the kernel for ever, and its library can crash.

Parent and child speak JSON lines over the child's standard output. The child ends with its parent: by SIGKILL from the
kernel (PR_SET_PDEATHSIG, prctl(2)), and because its standard input ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pynvml

from dmaproof.parent import die_with_parent

_KILL_S = 2.0
_LONGEST_LINE_NBYTES = 1 << 24

REASONS: Mapping[int, str] = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "libnvidia-ml.so.1 is not installed",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded",
    pynvml.NVML_ERROR_NO_PERMISSION: "this user may not talk to the NVIDIA driver",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "libnvidia-ml.so.1 and the loaded NVIDIA driver differ in version",
    pynvml.NVML_ERROR_GPU_IS_LOST: "a GPU is lost: it has fallen off the bus or does not answer",
}


def reason(error: pynvml.NVMLError) -> str:
    """What ``error`` means for people."""
    return REASONS.get(error.value, str(error))


class Child:
    """``python -m module`` as a child whose words are read without waiting.

    ``env`` is laid over this process's environment. The child must be stopped by ``stop``. It also ends with the thread
    that started it (prctl(2)). Raises OSError where no process can be started.
    """

    def __init__(self, module: str, env: Mapping[str, str]) -> None:
        with contextlib.ExitStack() as undo:
            self._errors = undo.enter_context(tempfile.TemporaryFile())  # a file never makes the child wait
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env={**os.environ, **env},
                start_new_session=True,  # Ctrl-C is for the parent, which then stops the child
            )
            undo.pop_all()
        assert self._process.stdout is not None  # noqa: S101 - stdout=PIPE gives one
        self._out = self._process.stdout.fileno()
        os.set_blocking(self._out, False)
        assert self._process.stdin is not None  # noqa: S101
        os.set_blocking(self._process.stdin.fileno(), False)
        self._kept = b""
        self.silent = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self) -> None:
        """Nudge the child (see ``serve``), without ever waiting for it."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(OSError):  # it has ended, or has not heard thousands of nudges
                os.write(self._process.stdin.fileno(), b"?")

    def read(self, timeout_s: float = 0.0) -> list[dict[str, Any]]:
        """What the child has said, after waiting up to ``timeout_s`` for more; ``silent`` once it will say no more."""
        said: list[dict[str, Any]] = []
        while not self.silent and select.select([self._out], [], [], 0.0 if said else timeout_s)[0]:
            data = os.read(self._out, 1 << 16)
            self.silent = not data
            *whole, self._kept = (self._kept + data).split(b"\n")
            self._kept = self._kept[:_LONGEST_LINE_NBYTES]
            said += [json.loads(line) for line in whole]
            timeout_s = 0.0
        return said

    def state(self) -> str:
        """How the child is, in a few words."""
        if self.silent:  # its output has ended: it is about to end itself
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_KILL_S)
        status = self._process.poll()
        if status is not None and status < 0:
            return f"ended by {signal.Signals(-status).name}"
        if status is not None:
            return f"ended with exit status {status}" + self._last_words()
        try:
            letter = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return "gone"
        return "stuck in the kernel (state D)" if letter == "D" else f"running (state {letter})"

    def _last_words(self) -> str:
        self._errors.seek(0)
        words = self._errors.read().decode("utf-8", "replace").strip()
        return f": {words.splitlines()[-1]}" if words else ""

    def stop(self) -> str | None:
        """End the child, within seconds. Returns how it is when it cannot be ended: a process in state D dies only
        when its system call returns."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self.silent = True
        self._process.kill()
        state = self.state()
        self._errors.close()
        if self._process.poll() is None:
            threading.Thread(target=self._process.wait, daemon=True).start()  # so that no zombie stays
            return state
        return None


def serve(
    work: Callable[[Callable[[Mapping[str, Any]], None]], None], asked: Callable[[], object] = lambda: None
) -> None:
    """Run ``work(say)`` in the child, with ``say`` leading to the parent, until it returns or the parent is gone.
    ``asked`` is called, in a thread of its own, when the parent asks (Child.ask)."""
    die_with_parent()
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    with open(os.devnull, "wb") as devnull:  # noqa: PTH123 - libraries may print what is no word of ours
        os.dup2(devnull.fileno(), 1)
    threading.Thread(target=_hear_parent, args=(asked,), daemon=True).start()

    def say(words: Mapping[str, Any]) -> None:
        try:
            data = memoryview(json.dumps(words).encode() + b"\n")
            while data:
                data = data[out.write(data) :]
        except BrokenPipeError:
            os._exit(0)

    work(say)


def _hear_parent(asked: Callable[[], object]) -> None:
    """What the parent says is no more than a nudge; its end is the child's."""
    while os.read(0, 4096):
        asked()
    os._exit(0)


def wait_until(deadline_s: float) -> float:
    """The time left until ``deadline_s`` on CLOCK_MONOTONIC, never negative."""
    return max(0.0, deadline_s - time.monotonic())
