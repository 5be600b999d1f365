"""A figure, its goal, and how it is shown."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Figure:
    """``samples`` in ``unit``; ``goal`` in the same unit, or None for what is only compared with."""

    name: str
    unit: str
    samples: Sequence[float]
    goal: float | None = None
    note: str = ""


def timed(work: Callable[[], object], repeat: int) -> list[float]:
    """Seconds of wall clock, ``repeat`` times."""
    samples = []
    for _ in range(repeat):
        begin = time.perf_counter()
        work()
        samples.append(time.perf_counter() - begin)
    return samples


def command(*args: str, timeout_s: float = 900) -> subprocess.CompletedProcess[str]:
    """Run this interpreter with ``args`` in the project's folder."""
    return subprocess.run(
        [sys.executable, *args], cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False
    )


def timed_command(*args: str, repeat: int) -> list[float]:
    """Seconds that this interpreter with ``args`` takes, ``repeat`` times."""
    return timed(lambda: command(*args), repeat)


def show(figures: Sequence[Figure]) -> None:
    table = Table("figure", "median", "min", "max", "runs", "goal", "note")
    for one in figures:
        median, least, most = statistics.median(one.samples), min(one.samples), max(one.samples)
        values = [f"{value:.4g} {one.unit}" for value in (median, least, most)]
        goal = "" if one.goal is None else f"{one.goal:g} {one.unit}" + (" met" if median <= one.goal else " MISSED")
        table.add_row(one.name, *values, str(len(one.samples)), goal, one.note)
    Console(width=140).print(table)
