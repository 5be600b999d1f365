"""``dmaproof decode``: a kernel log as events, while it comes."""

from __future__ import annotations

import json
from collections import Counter

import click

from dmaproof.cli import findings
from dmaproof.cli.logs import log_argument, readable, reading, tally
from dmaproof.evidence.decode import LogDecoder, event_json


@click.command("decode")
@click.option("--json", "as_json", is_flag=True, help="One JSON object an event.")
@log_argument
def command(as_json: bool, log: str) -> None:
    """Decode the IOMMU faults, Xids and the like of a kernel log.

    LOG is a file (dmesg, journal, syslog, /dev/kmsg, serial console), or - for standard input. Lines that are none of
    these are counted. Exit status: 0 no event, 1 events, 2 LOG cannot be read.
    """
    decoder, kinds = LogDecoder(), Counter[str]()
    with reading(log) as stream:
        for event in decoder.run(stream):
            kinds[event.kind] += 1
            click.echo(json.dumps(event_json(event)) if as_json else readable(event))
    if not as_json:
        click.echo(tally(kinds, decoder.lines, decoder.unknown))
    if kinds:
        findings()
