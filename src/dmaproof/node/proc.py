"""Is that process still there, and is it the same one? (Documentation/filesystems/proc.rst, /proc/PID/stat)"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from dmaproof import schedstat

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


def queued_s(pid: int) -> dict[int, float]:
    """Seconds in all that each thread of ``pid``, and of what it started, was ready to run and had no processor, by
    their numbers. Empty where the kernel does not count that; children are known where it lists them
    (CONFIG_PROC_CHILDREN)."""
    found: dict[int, float] = {}
    for task in Path(f"/proc/{pid}/task").glob("[0-9]*"):
        waited_s = schedstat.queued_s(task)
        if waited_s is None:
            continue
        found[int(task.name)] = waited_s
        with suppress(OSError):
            for child in (task / "children").read_text().split():
                found |= queued_s(int(child))
    return found


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
