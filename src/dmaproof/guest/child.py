"""Commands of the lab: every one on a leash, under a deadline, with its output kept."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from dmaproof.errors import DmaproofError, UsageError
from dmaproof.node.deadline import Deadline

_LAST_LINES = 6
_CHUNK_NBYTES = 1 << 16
_END_S, _GRACE_S = 10.0, 1.0
_VOICE = {"LC_ALL": "C", "TERM": "dumb", "DEBIAN_FRONTEND": "noninteractive"}


def run(
    command: Sequence[str],
    log: Path,
    deadline: Deadline,
    *,
    line: Callable[[str], None] = lambda _text: None,
    keep: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    """Run ``command``, its output appended to ``log`` and given to ``line`` line by line; returns the output.

    ``keep`` are descriptors it inherits. Raises UsageError where it is not installed or not done by ``deadline``,
    DmaproofError where it fails, with the last it said and where the rest is.
    """
    if shutil.which(command[0]) is None:
        raise UsageError(f"no {command[0]} on PATH")
    out, theirs = os.pipe()
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, out)
        child = undo.enter_context(_started(command, theirs, keep, env, folder))
        text = _listen(out, log, deadline, line)
        if text is None or (status := _status(child, deadline)) is None:
            raise UsageError(f"{command[0]} was not done within {deadline.seconds:g} s; what it said is in {log}")
    if status != 0:
        last = " | ".join(text.strip().splitlines()[-_LAST_LINES:]) or "nothing"
        raise DmaproofError(f"{' '.join(command)[:200]} failed (exit status {status}): {last}; see {log}")
    return text


@contextlib.contextmanager
def _started(
    command: Sequence[str], out: int, keep: Sequence[int], env: Mapping[str, str] | None, folder: Path | None
) -> Iterator[subprocess.Popen[bytes]]:
    """The command on its leash, which is let go at the end: what it held ends with it. Closes ``out``."""
    fds = ",".join(str(fd) for fd in keep)
    try:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "dmaproof.guest.leash", fds, *command],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_VOICE, **(env or {})},
            cwd=folder,
            pass_fds=keep,
            start_new_session=True,
        )
    finally:
        os.close(out)
    try:
        yield child
    finally:
        try:
            child.communicate(timeout=_END_S)  # closes its standard input
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(_END_S)


def _status(child: subprocess.Popen[bytes], deadline: Deadline) -> int | None:
    try:
        return child.wait(max(deadline.remaining_s, _GRACE_S))
    except subprocess.TimeoutExpired:
        return None


def _listen(fd: int, log: Path, deadline: Deadline, line: Callable[[str], None]) -> str | None:
    """All that comes until the other end is closed; None when ``deadline`` passes first."""
    said, rest = bytearray(), b""
    with log.open("ab") as file:
        while select.select([fd], [], [], deadline.remaining_s)[0]:
            chunk = os.read(fd, _CHUNK_NBYTES)
            if not chunk:
                return said.decode(errors="replace")
            file.write(chunk)
            file.flush()
            said += chunk
            *lines, rest = (rest + chunk).split(b"\n")
            for one in lines:
                line(one.decode(errors="replace"))
    return None
