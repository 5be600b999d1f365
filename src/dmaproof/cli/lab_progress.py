"""How far the lab's long steps came: a live line in a terminal, plain lines elsewhere; on stderr, not among results."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from dmaproof.guest.telling import Tell

_EVERY_S = 15.0


@contextlib.contextmanager
def shown() -> Iterator[Tell]:
    """What to tell of the progress while the block runs."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plainly()
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[far]}"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task("", total=None, far="")

        def tell(what: str, how_far: str, fraction: float | None) -> None:
            total = None if fraction is None else 1.0
            progress.update(task, description=what, far=how_far, total=total, completed=fraction or 0.0)

        yield tell


def _plainly() -> Tell:
    """A line when something else begins, and now and then in between."""
    last, next_s = "", 0.0

    def tell(what: str, how_far: str, fraction: float | None) -> None:
        nonlocal last, next_s
        if what == last and time.monotonic() < next_s:
            return
        last, next_s = what, time.monotonic() + _EVERY_S
        percent = "" if fraction is None else f"{fraction:.0%}"
        click.echo(f"dmaproof: {': '.join(one for one in (what, percent, how_far) if one)}", err=True)

    return tell
