"""How long a thread was ready to run and had no processor (Documentation/scheduler/sched-stats.rst)."""

from __future__ import annotations

from pathlib import Path


def queued_s(folder: Path) -> float | None:
    """Seconds in all, of the thread whose ``folder`` of /proc this is: the second figure of its ``schedstat``. None
    where it has ended, or the kernel does not count that (CONFIG_SCHED_INFO)."""
    try:
        return int((folder / "schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return None
