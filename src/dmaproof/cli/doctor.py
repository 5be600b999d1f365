"""``dmaproof doctor``: what this machine can run."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import click

from dmaproof.cli import Command, findings
from dmaproof.cli.logs import one_line
from dmaproof.rig.doctor import Row, examine

_PROBE_S = 20.0
_COLOURS = {"ok": "green", "missing": "red", "unknown": "yellow"}


@click.command("doctor", cls=Command)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a row, in a list.")
def command(as_json: bool) -> None:
    """Try what this machine can run, and name the one command that supplies each missing thing.

    Exit status: 0, or 1 where something is missing without which nothing can be run at all.
    """
    rows = examine(Path("/"), {}, _PROBE_S)
    lacking = [row.subject for row in rows if row.required and row.state != "ok"]
    click.echo(json.dumps([asdict(row) for row in rows]) if as_json else _table(rows, lacking))
    if lacking:
        findings()


def _table(rows: tuple[Row, ...], lacking: list[str]) -> str:
    width = max(len(row.subject) for row in rows)
    lines = [line for row in rows for line in _lines(row, width)]
    end = f"nothing can be run without: {', '.join(lacking)}" if lacking else f"ready: {_how(rows)}"
    return "\n".join([*lines, "", end])


def _how(rows: tuple[Row, ...]) -> str:
    """The command to run next, of the very environment that was examined."""
    no_gpu = any(row.subject == "GPUs" and row.state == "missing" for row in rows)
    return f"{_pytest()} suites" + (" (virtual rigs only: no NVIDIA GPU here)" if no_gpu else "")


def _pytest() -> str:
    own, found = Path(sys.executable).with_name("pytest"), shutil.which("pytest")
    if not own.exists():
        return f"{shlex.quote(sys.executable)} -m pytest"
    return "pytest" if found is not None and own.samefile(found) else shlex.quote(str(own))


def _lines(row: Row, width: int) -> list[str]:
    state = click.style(f"{row.state:<7}", fg=_COLOURS[row.state])
    lines = [f"{state}  {row.subject:<{width}}  {one_line(row.detail)}"]
    if row.state != "ok":
        lines += [f"{'':>{width + 11}}for: {row.purpose}", f"{'':>{width + 11}}get: {row.supply}"]
    return lines
