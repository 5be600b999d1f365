"""Where the lab keeps what it unpacked and built: a folder of the user's cache that only ever holds whole things.

A thing is made in a folder beside its place and renamed when it is done, so that who is killed leaves no half of it.
One process at a time makes things; the lock is passed on to what that process runs, so that nobody sweeps up under a
compiler that outlived it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from platformdirs import user_cache_path

from dmaproof.errors import UsageError
from dmaproof.guest.telling import Tell, quietly

_PARTIAL = "partial-"
_PATIENCE_S, _POLL_S = 3600.0, 0.2
_WAY_OUT = "set XDG_CACHE_HOME to a folder of yours with 5 GB to spare"


def folder() -> Path:
    return user_cache_path("dmaproof") / "lab"


def newest(kind: str, pattern: str) -> Path | None:
    """The thing of ``kind`` ("qemu", "kernel") that was made last, of those whose names match the glob ``pattern``."""
    found = [one for one in (folder() / kind).glob(pattern) if not one.name.startswith(_PARTIAL)]
    return max(found, key=lambda one: one.stat().st_mtime_ns, default=None)


@contextlib.contextmanager
def locked(tell: Tell = quietly, patience_s: float = _PATIENCE_S) -> Iterator[int]:
    """Be the one process that makes things; yields the lock's descriptor, for children to inherit.

    What killed ones left half made is removed. Raises UsageError when another does not finish within ``patience_s``
    seconds, or the folder cannot be written.
    """
    with _writing():
        folder().mkdir(parents=True, exist_ok=True)
        fd = os.open(folder() / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(fd, tell, patience_s)
        _sweep()
        yield fd
    finally:
        os.close(fd)


def _take(fd: int, tell: Tell, patience_s: float) -> None:
    until = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "another process"
        if time.monotonic() >= until:
            raise UsageError(f"{folder()} is in use by {holder} for {patience_s:g} s: wait for it, or end it")
        tell("waiting", f"{holder} is at work in {folder()}", None)
        time.sleep(_POLL_S)
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"process {os.getpid()}\n".encode(), 0)


def _sweep() -> None:
    for one in folder().glob(f"*/{_PARTIAL}*"):
        shutil.rmtree(one, ignore_errors=True)


@contextlib.contextmanager
def making(target: Path) -> Iterator[Path]:
    """A folder to make ``target`` in, which becomes ``target`` at the end, in place of an older one.

    Only under ``locked``. After an exception it is gone. Raises UsageError where there is no room or permission.
    """
    with _writing():
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=target.parent))
        try:
            yield scratch
            scratch.chmod(0o755)
            if target.exists():
                target.rename(scratch.with_name(f"{scratch.name}-old"))
            scratch.rename(target)
        finally:
            for one in target.parent.glob(f"{scratch.name}*"):
                shutil.rmtree(one, ignore_errors=True)


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM):
            raise
        raise UsageError(f"cannot keep the lab in {folder()}: {error.strerror}; {_WAY_OUT}") from None
