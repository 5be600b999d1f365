"""``dmaproof decode``: a kernel log as events, while it comes."""

from __future__ import annotations

import json
from collections import Counter

import click

from dmaproof.cli import Command, findings, remark
from dmaproof.cli.logs import log_argument, readable, reading, tally
from dmaproof.cli.undecoded import LogReader
from dmaproof.evidence.decode import event_json


@click.command("decode", cls=Command)
@click.option("--json", "as_json", is_flag=True, help="One JSON object an event.")
@log_argument
def command(as_json: bool, log: str) -> None:
    """Decode the IOMMU faults, Xids and the like of a kernel log.

    LOG is a file (dmesg, journal, syslog, serial console), /dev/kmsg (until it is interrupted), or - for standard
    input. Lines that are none of these are counted; fault reports of families that are not decoded yet are named (with
    --json on standard error).
    Exit status: 0 no event, 1 events or such reports, 2 LOG cannot be read.
    """
    reader, kinds = LogReader(), Counter[str]()
    with reading(log, follow=True) as stream:
        for event in reader.run(stream):
            kinds[event.kind] += 1
            click.echo(json.dumps(event_json(event)) if as_json else readable(event))
    if not as_json:
        click.echo(tally(kinds, reader.decoder.lines, reader.decoder.unknown))
    for note in reader.notes():
        remark(note) if as_json else click.echo(note)
    reader.warn_if_no_log(log)
    if kinds or reader.undecoded:
        findings()
