"""Files that are whole or not there, and errors of the file system as one clear sentence."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

from dmaproof.errors import ReportError

_WAYS_OUT = {
    errno.ENOSPC: "free some space there, or put the reports elsewhere",
    errno.EDQUOT: "free some of your quota there, or put the reports elsewhere",
    errno.EIO: "the disk failed: look at the kernel log, and put the reports elsewhere",
    errno.EROFS: "put the reports on a writable file system",
    errno.EACCES: "give yourself permission there, or put the reports elsewhere",
    errno.EPERM: "give yourself permission there, or put the reports elsewhere",
    errno.ENOENT: "check that the path exists",
    errno.ENOTDIR: "check the path: one of its folders is a file",
    errno.ENAMETOOLONG: "use a shorter path",
}


def failure(doing: str, path: Path, error: OSError) -> ReportError:
    """``cannot DOING PATH: REASON; WAY OUT``."""
    way_out = _WAYS_OUT.get(error.errno or 0, "put the reports elsewhere")
    return ReportError(f"cannot {doing} {path}: {error.strerror or error}; {way_out}")


def write_atomically(path: Path, text: str) -> None:
    """Put ``text`` (as UTF-8) at ``path`` whole or not at all; raises ReportError and leaves no half behind.

    The new file is made beside ``path``: a rename is atomic within one file system only (rename(2)).
    """
    beside = path.with_name(f".{path.name[:80]}.{secrets.token_hex(4)}")
    try:
        with beside.open("x", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise failure("write", path, error) from None
    finally:
        _remove(beside)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # its folder is not there or not ours: then neither is the file
        pass
