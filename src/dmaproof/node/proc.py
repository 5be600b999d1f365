"""Is that process still there, and is it the same one? (Documentation/filesystems/proc.rst, /proc/PID/stat)"""

from __future__ import annotations

from pathlib import Path

ENDED = frozenset("ZXx")
"""A zombie has given back all it held; only its number waits for its parent."""


def state(pid: int, started: int | None = None) -> str | None:
    """The state letter of process ``pid``: R, S, D, T, ...; None when it has ended or cannot be seen.

    Where the main thread has ended and others have not (one of them stuck after SIGKILL), it is the state of the first.
    """
    fields = _stat(Path(f"/proc/{pid}"))
    if fields is None or started not in (None, int(fields[19])):
        return None
    return fields[0] if fields[0] not in ENDED else _state_of_other_threads(pid)


def start_time(pid: int) -> int | None:
    """When ``pid`` started, in clock ticks since boot; None when there is no such process."""
    fields = _stat(Path(f"/proc/{pid}"))
    return None if fields is None else int(fields[19])


def queued_s(pid: int) -> float:
    """Seconds in all that the main thread of ``pid`` was ready to run and had no processor: the second figure of
    /proc/PID/schedstat (Documentation/scheduler/sched-stats.rst). 0 where the kernel does not count it."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def _state_of_other_threads(pid: int) -> str | None:
    try:
        threads = [_stat(folder) for folder in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return next((fields[0] for fields in threads if fields and fields[0] not in ENDED), None)


def _stat(folder: Path) -> list[str] | None:
    try:
        text = (folder / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # the last by hidepid=1: it cannot be seen
        return None
    return text.rpartition(")")[2].split()  # the name in front may hold blanks and brackets
