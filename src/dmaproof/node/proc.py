"""Is that process still there, and is it the same one? (Documentation/filesystems/proc.rst, /proc/PID/stat)"""

from __future__ import annotations

from pathlib import Path

_ENDED = frozenset("ZXx")
"""A zombie has given back all it held; only its number waits for its parent."""


def state(pid: int, started: int | None = None) -> str | None:
    """The state letter of process ``pid``: R, S, D, T, ...; None when it has ended or cannot be seen."""
    fields = _stat(pid)
    if fields is None or fields[0] in _ENDED:
        return None
    return fields[0] if started is None or int(fields[19]) == started else None


def start_time(pid: int) -> int | None:
    """When ``pid`` started, in clock ticks since boot; None when there is no such process."""
    fields = _stat(pid)
    return None if fields is None else int(fields[19])


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # the last by hidepid=1: it cannot be seen
        return None
    return text.rpartition(")")[2].split()  # the name in front may hold blanks and brackets
