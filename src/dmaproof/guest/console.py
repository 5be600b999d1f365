"""What a machine that is gone, or did not come up, said last."""

from __future__ import annotations

import re
from pathlib import Path

from dmaproof.guest.folder import CONSOLE, QEMU_LOG

_TAIL_NBYTES, _MOST_LINES = 1 << 16, 6
_REPORT_NBYTES = 1 << 18
"""A panic with the stacks of every processor before it."""
_TELLING = re.compile(r"panic|BUG:|Oops|not syncing|Unable to mount|Out of memory|error", re.IGNORECASE)
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[^\t\x20-\x7e]")
_OF_NO_HELP = re.compile(r"(\[ *[\d.]+\] )?(Kernel c|C)ommand line:")
"""Printed whatever the log level is, and longer than all the rest (arch/x86/kernel/setup.c)."""
_WIDTH = 200
_TIME = re.compile(r"^\d{4}-\d\d-\d\dT[\d:.]+Z ")
"""Before a line of QEMU's (util/error-report.c): to a reader of a last word it says nothing."""


def last_words(folder: Path) -> str:
    """For the end of a sentence: QEMU's own complaint, and what is most telling on the console in ``folder``."""
    qemu = [line for line in _lines(folder / QEMU_LOG) if "warning" not in line][-2:]
    console = _lines(folder / CONSOLE)
    telling = [line for line in console if _TELLING.search(line)][:_MOST_LINES] or console[-_MOST_LINES:]
    parts = [f"QEMU says: {' | '.join(qemu)}"] if qemu else []
    parts += [f"the console says: {' | '.join(telling)}"] if telling else ["the console says nothing"]
    return f"; {'; '.join(parts)}"


def tail(folder: Path) -> str:
    """The end of the console in ``folder``, as it was written; nothing where there is none."""
    return _end(folder / CONSOLE, _REPORT_NBYTES)


def _end(path: Path, nbytes: int) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - nbytes))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _lines(path: Path) -> list[str]:
    text = _end(path, _TAIL_NBYTES)
    lines = (_TIME.sub("", _CONTROL.sub("", one)).strip()[:_WIDTH] for one in text.splitlines())
    return [line for line in lines if line and not _OF_NO_HELP.match(line)]
