"""Python programs that stand for another harness: told what to do, asked what they said, killed at will."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SAYS_WITHIN_S = 20.0


@contextlib.contextmanager
def program(source: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``source`` in a Python of its own, killed at the end."""
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(source)], cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[bytes]) -> str:
    """The next line that the program prints."""
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], SAYS_WITHIN_S)[0], "the program says nothing"
    text = bytearray()
    while not text.endswith(b"\n"):
        byte = os.read(process.stdout.fileno(), 1)
        assert byte, f"the program ended after {bytes(text)!r}"
        text += byte
    return text.decode().strip()


def eventually(condition: Callable[[], bool], within_s: float = 5.0) -> bool:
    """Whether ``condition`` comes to hold in time."""
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def gone(pid: int) -> bool:
    """Whether process ``pid`` has ended, all its threads; a zombie has."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state in "ZX" and len(list(Path(f"/proc/{pid}/task").iterdir())) == 1
    except (FileNotFoundError, ProcessLookupError):
        return True
