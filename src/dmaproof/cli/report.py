"""``dmaproof report``: the report of a run, made again from its record."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from dmaproof.cli import Command, findings
from dmaproof.errors import UsageError
from dmaproof.report import nvbandwidth
from dmaproof.report.html import write_html
from dmaproof.report.loaded import Record
from dmaproof.report.stream import read
from dmaproof.report.summary import print_summary

_LATEST = Path("reports/runs/latest")


@click.command("report", cls=Command)
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option(
    "--nvbandwidth-json",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Also write the run's nvbandwidth cases to FILE, in the JSON of nvbandwidth -j.",
)
def command(run: Path | None, nvbandwidth_json: Path | None) -> None:
    """Write report.html of a run again from its record, and print the summary.

    RUN is a run folder or its record.jsonl (default: reports/runs/latest). Exit status: 0 all that ran passed, 1 a
    failure, or a run that did not come to its end, 2 RUN cannot be read.
    """
    if run is None and not _LATEST.exists():
        raise UsageError(f"no run yet: {_LATEST} is not there; run `pytest suites` first, or name a run folder")
    wanted = nvbandwidth.checked(nvbandwidth_json) if nvbandwidth_json is not None else None
    record = read(run or _LATEST)
    write_html(record, record.path.parent / "report.html")
    if wanted is not None:
        nvbandwidth.write_json(record, wanted)
    print_summary(record, Console(highlight=False))
    if not _is_fine(record):
        findings()


def _is_fine(record: Record) -> bool:
    """A run that was cut short proves nothing, whatever its tests said until then."""
    if not record.whole or record.end is None or record.end.exit_status not in (0, None):
        return False
    return all(test.outcome in ("passed", "skipped") for test in record.tests)
