"""``dmaproof audit-trace``: what of a guest's device memory is missing from stage 2, by QEMU's trace log."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dmaproof import bdf
from dmaproof.cli import Command, findings
from dmaproof.errors import UsageError
from dmaproof.guest.audit import bars, trace
from dmaproof.guest.audit import tables as page_tables
from dmaproof.guest.audit.audit import Asked, Declared, audit
from dmaproof.guest.audit.bars import Function
from dmaproof.guest.audit.finding import Audit, Finding, LeftOut
from dmaproof.guest.audit.gaps import Limits
from dmaproof.guest.audit.table import Range
from dmaproof.guest.audit.trace import WHAT_TO_TRACE, Trace
from dmaproof.guest.qmp import Monitor
from dmaproof.report.text import counted, printable

SCHEMA = 1
_ANSWER_S = 10.0
_SPAN = re.compile(r"(0x[0-9a-fA-F]{1,16})-(0x[0-9a-fA-F]{1,16})")
_GUEST = re.compile(r"(?:0000:)?([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])")


@click.command(
    "audit-trace",
    cls=Command,
    epilog=f"The trace is QEMU's, run with: {WHAT_TO_TRACE}",
)
@click.option("--pci", "pci", metavar="FILE", help="What QMP's query-pci answers: where the guest has its BARs.")
@click.option("--qmp", "monitor", metavar="SOCKET", help="QEMU's own monitor, asked now, in place of --pci.")
@click.option(
    "--device",
    "devices",
    metavar="GUEST=HOST",
    multiple=True,
    help="Guest function 01:00.0 is the host's 0000:17:00.0.",
)
@click.option(
    "--range", "ranges", metavar="NAME=FIRST-LAST", multiple=True, help="More device memory: HDM, coherent memory."
)
@click.option(
    "--reserved",
    "reserved",
    metavar="FIRST-LAST",
    multiple=True,
    help="What the host's IOMMU keeps (reserved_regions).",
)
@click.option(
    "--width", "width_bits", metavar="BITS", type=click.IntRange(1, 64), help="Bits that the IOMMU translates."
)
@click.option(
    "--table", "tables", metavar="FILE", multiple=True, help="The IOMMU's own tables of a host function, from debugfs."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object (docs/guests.md).")
@click.argument("file", metavar="FILE")
def command(
    pci: str | None,
    monitor: str | None,
    devices: tuple[str, ...],
    ranges: tuple[str, ...],
    reserved: tuple[str, ...],
    width_bits: int | None,
    tables: tuple[str, ...],
    as_json: bool,
    file: str,
) -> None:
    """Audit QEMU's trace log FILE: is all memory of the guest's assigned devices in stage 2 when the log ends?

    Without --pci the BARs are looked for where the trace places them (pci_update_mappings_*), else only by what QEMU
    itself knew of and did not map. Exit status: 0 nothing is missing, 1 findings, 2 FILE cannot be read or is no trace.
    """
    asked = Asked(
        functions=_functions(pci, monitor),
        hosts=dict(_device(word) for word in devices),
        declared=tuple(_declared(word) for word in ranges),
        limits=Limits(tuple(_span("--reserved", word) for word in reserved), width_bits),
        tables=tuple(page_tables.read(word) for word in tables),
    )
    read = trace.read(file)
    found = audit(read, asked)
    click.echo(json.dumps(_as_json(read, found))) if as_json else _tell(read, found)
    if found.findings:
        findings()


def _functions(pci: str | None, monitor: str | None) -> tuple[Function, ...] | None:
    if pci is not None and monitor is not None:
        raise UsageError("--pci and --qmp both say where the guest has its BARs: give one")
    if monitor is None:
        return None if pci is None else bars.read(pci)
    with Monitor(Path(monitor), _ANSWER_S) as qemu:
        return bars.of_query(qemu.ask("query-pci"), f"what {monitor} answers")


def _device(word: str) -> tuple[str, str]:
    guest, _, host = word.partition("=")
    match = _GUEST.fullmatch(guest)
    if match is None:
        raise UsageError(f"--device {word!r}: write GUEST=HOST, such as 01:00.0=0000:17:00.0")
    return match[1], bdf.parse(host)


def _declared(word: str) -> Declared:
    name, _, span = word.rpartition("=")
    if not name:
        raise UsageError(f"--range {word!r}: write NAME=FIRST-LAST, such as hdm0=0x400000000000-0x41ffffffffff")
    return Declared(name, _span("--range", span))


def _span(option: str, word: str) -> Range:
    match = _SPAN.fullmatch(word)
    if match is None or int(match[1], 16) > int(match[2], 16):
        raise UsageError(f"{option} {word!r}: write FIRST-LAST, both included, such as 0xfee00000-0xfeefffff")
    return Range(int(match[1], 16), int(match[2], 16))


def _as_json(read: Trace, found: Audit) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "backend": found.backend,
        "lines": read.lines,
        "events": sum(read.names.values()),
        "findings": [_finding(one) for one in found.findings],
        "judged": [{"device": device, **asdict(where)} for device, where in found.judged],
        "left_out": [_left_out(one) for one in found.left_out],
        "blind_spots": list(found.blind_spots),
    }


def _finding(one: Finding) -> dict[str, Any]:
    where = one.range
    known = {name: value for name, value in asdict(one).items() if name not in ("range", "at")}
    return {
        **known,
        "first": where.first if where is not None else None,
        "last": where.last if where is not None else None,
        "at": asdict(one.at) if one.at is not None else None,
        "missing": one.missing,
        "consequence": one.consequence,
    }


def _left_out(one: LeftOut) -> dict[str, Any]:
    where = {"first": None, "last": None} if one.range is None else asdict(one.range)
    return {"device": one.device, **where, "why": one.why}


def _tell(read: Trace, found: Audit) -> None:
    events = sum(read.names.values())
    click.echo(
        f"{found.backend}, {counted(events, 'event')} in {counted(read.lines, 'line')}: "
        f"{counted(len(found.findings), 'finding')}, {counted(len(found.judged), 'range')} of device memory judged"
    )
    if found.findings:
        console = Console(highlight=False)
        with console.capture() as capture:  # not printed by rich itself: a closed pipe is the command line's to handle
            console.print(_table(found))
        click.echo(capture.get(), nl=False)
    for one in found.left_out:
        where = "" if one.range is None else f" {one.range}"
        click.echo(printable(f"left out: {one.device}{where}: {one.why}"))
    if found.blind_spots:
        click.echo("not seen:\n" + "\n".join(printable(f"  - {spot}") for spot in found.blind_spots))


def _table(found: Audit) -> Table:
    table = Table(show_lines=True)
    for heading in ("device", "guest-physical", "what", "so"):
        table.add_column(heading, overflow="fold")
    for one in found.findings:
        where = "not known" if one.range is None else f"{one.range.first:#x}\n{one.range.last:#x}"
        table.add_row(*(Text(printable(cell)) for cell in (one.device, where, one.missing, one.consequence)))
    return table
