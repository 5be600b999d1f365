"""``dmaproof doctor``: what this machine can run."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import click

from dmaproof import __version__
from dmaproof.cli import Command, findings, remark
from dmaproof.cli.logs import one_line
from dmaproof.errors import UsageError
from dmaproof.guest.doctor import examine as lab_rows
from dmaproof.report.text import counted
from dmaproof.rig.archive import opened
from dmaproof.rig.archive import save as pack
from dmaproof.rig.contents import DESCRIPTION
from dmaproof.rig.doctor import Row, examine
from dmaproof.rig.doctor_saved import examine_saved

_PROBE_S = 20.0
_PATIENCE_S = 2.0
_COLOURS = {"ok": "green", "missing": "red", "unknown": "yellow"}


@click.command("doctor", cls=Command, epilog=f"What an archive holds. {DESCRIPTION}")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a row, in a list; of --save, one object.")
@click.option("--save", metavar="FILE", help="Pack this machine into FILE (tar.gz) instead: see below what of it.")
@click.option("--archive", metavar="PATH", help="Look at a saved machine, or a folder like its /, instead of this one.")
def command(as_json: bool, save: str | None, archive: str | None) -> None:
    """Try what this machine can run, and name the one command that supplies each missing thing.

    With --save, nothing is tried: what the machine shows goes into one archive, which route --sysfs, triage --archive,
    decode, rigs and doctor --archive take in place of the machine. Best saved as root: others see 64 bytes of config
    space and no memory map. Exit status: 0, or 1 where something is missing without which nothing can be run at all, 2
    where FILE cannot be written or PATH not be read.
    """
    with opened(Path(archive)) if archive is not None else nullcontext(Path("/")) as root:
        if save is not None:
            _save(root, Path(save), as_json=as_json)
            return
        rows = (*examine(root, {}, _PROBE_S), *lab_rows(_PROBE_S)) if archive is None else examine_saved(root)
    lacking = [row.subject for row in rows if row.required and row.state != "ok"]
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows]))
    else:
        end = _end(rows, lacking) if archive is None else f"a saved machine: dmaproof route --sysfs {one_line(archive)}"
        click.echo(_table(rows, end))
    if lacking:
        findings()


def _save(root: Path, file: Path, *, as_json: bool) -> None:
    if str(file) == "-":
        raise UsageError("cannot save to -, standard output: name a file, such as bench.tar.gz")
    saved = pack(root, file, __version__, _slowly(time.monotonic()))
    if as_json:
        click.echo(json.dumps({"file": str(file), **asdict(saved)}))
        return
    count = f"{counted(saved.files, 'file')} of {counted(saved.functions, 'PCI function')}, {saved.nbytes} bytes"
    missing = [f"not in it: {one_line(one)}" for one in saved.left_out]
    saying = f"saved {one_line(str(file))}: {count}; `dmaproof doctor --help` says what it holds"
    click.echo("\n".join([saying, *missing]))


def _slowly(started_s: float) -> Callable[[str], None]:
    """Word of how far it came, for a machine that takes its time."""
    next_s = started_s + _PATIENCE_S

    def say(what: str) -> None:
        nonlocal next_s
        if time.monotonic() >= next_s:
            next_s = time.monotonic() + _PATIENCE_S
            remark(f"saving: {what}")

    return say


def _table(rows: tuple[Row, ...], end: str) -> str:
    width = max(len(row.subject) for row in rows)
    return "\n".join([*(line for row in rows for line in _lines(row, width)), "", end])


def _end(rows: tuple[Row, ...], lacking: list[str]) -> str:
    return f"nothing can be run without: {', '.join(lacking)}" if lacking else f"ready: {_how(rows)}"


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
