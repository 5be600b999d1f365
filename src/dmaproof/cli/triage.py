"""``dmaproof triage``: what a kernel log, with no test and no hardware at hand, says is to blame."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import click

from dmaproof.cli import Command, findings
from dmaproof.cli.logs import log_argument, one_line, readable, reading
from dmaproof.cli.undecoded import LogReader
from dmaproof.evidence.decode import event_json
from dmaproof.evidence.event import Event
from dmaproof.report.text import counted
from dmaproof.rig.host import resolve
from dmaproof.rig.model import Rig
from dmaproof.triage.blind_spots import blind_spots
from dmaproof.triage.offline import case as case_of
from dmaproof.triage.offline import conclude, strangers, unexplained
from dmaproof.triage.signatures import unattributed
from dmaproof.triage.verdict import Case, Verdict

_MOST_EVENTS, _MOST_NAMES = 20, 4
_MOST_EVIDENCE = 5  # a fault storm has thousands of lines that say the same


@click.command("triage", cls=Command)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with all evidence.")
@click.option("--rig", "rig_word", metavar="RIG", help="The rig the log is from: its BARs give fault addresses names.")
@log_argument
def command(as_json: bool, rig_word: str | None, log: str) -> None:
    """Name what a kernel log says is to blame, and what the log cannot show.

    LOG is a file or - for standard input. With --json, "verdicts" has what was concluded and "unexplained" every event
    that no signature explains, each as `dmaproof decode --json` has it; notes go to standard error. Exit status:
    0 nothing found, 1 events, or fault reports of a family that is not decoded, 2 LOG or RIG cannot be read.
    """
    rig = resolve(rig_word).rig if rig_word is not None else None
    reader = LogReader()
    with reading(log) as stream:
        events = tuple(reader.run(stream))
    reader.warn_if_no_log(log)
    if rig is not None and (names := strangers(events, rig)):
        click.echo(f"dmaproof: {_not_of(names, rig)}: is this the right rig?", err=True)
    case = case_of(events, log, rig)
    verdicts = conclude(case)
    if as_json:
        for note in reader.notes():
            click.echo(f"dmaproof: {note}", err=True)
    click.echo(json.dumps(_as_json(case, reader, verdicts)) if as_json else _as_text(case, reader, verdicts))
    if verdicts or reader.undecoded:
        findings()


def _not_of(names: tuple[str, ...], rig: Rig) -> str:
    if len(names) == 1:
        return f"{names[0]} is not a GPU of rig {rig.id}"
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{', '.join(names[:_MOST_NAMES])}{more} are not GPUs of rig {rig.id}"


def _as_json(case: Case, reader: LogReader, verdicts: tuple[Verdict, ...]) -> dict[str, Any]:
    return {
        "rig": case.rig.id,
        "node": case.node.name,
        "lines": reader.decoder.lines,
        "unknown": reader.decoder.unknown,
        "events": sum(one.event is not None for one in case.evidence),
        "verdicts": [
            {
                "signature": verdict.signature,
                "confidence": verdict.confidence,
                "summary": verdict.summary,
                "evidence": [one.text for one in verdict.evidence],
                "remedy": verdict.remedy,
                "references": list(verdict.references),
            }
            for verdict in verdicts
        ],
        "unexplained": [event_json(one.event) for one in unexplained(case, verdicts) if one.event is not None],
        "blind_spots": _unseen(case, verdicts),
    }


def _unseen(case: Case, verdicts: tuple[Verdict, ...]) -> list[str]:
    """Every verdict of one log has the same blind spots: they are said once, after all verdicts."""
    spots = [spot for verdict in verdicts for spot in verdict.blind_spots] or blind_spots(case)
    return list(dict.fromkeys(spots))


def _as_text(case: Case, reader: LogReader, verdicts: tuple[Verdict, ...]) -> str:
    left = [one.event for one in unexplained(case, verdicts) if one.event is not None]
    parts = [_verdict_text(verdict) for verdict in verdicts if verdict.signature != unattributed.ID]
    if left:
        heading = "not explained by any verdict" if parts else f"unattributed: {verdicts[0].summary}"
        parts.append("\n".join([f"{heading}:" if parts else heading, *_listed(left)]))
    parts += ["\n".join(reader.notes())] if reader.undecoded else []
    parts = parts or [f"nothing found: no known event in {counted(reader.decoder.lines, 'line')}"]
    parts.append("not seen:\n" + "\n".join(f"  - {one_line(spot)}" for spot in _unseen(case, verdicts)))
    return "\n\n".join(parts)


def _listed(events: list[Event]) -> list[str]:
    """One line for each different text: a storm says one thing thousands of times."""
    times = Counter(event.text for event in events)
    first = {event.text: event for event in reversed(events)}
    shown = [
        f"  | {readable(first[text])}" + (f" ({count} times)" if count > 1 else "")
        for text, count in list(times.items())[:_MOST_EVENTS]
    ]
    left = len(times) - len(shown)
    return [*shown, *([f"  | and {left} more (--json lists all)"] if left else [])]


def _verdict_text(verdict: Verdict) -> str:
    shown = [f"  | {one_line(one.text)}" for one in verdict.evidence[:_MOST_EVIDENCE]]
    left = len(verdict.evidence) - len(shown)
    return "\n".join(
        [
            f"{verdict.signature} ({verdict.confidence}): {one_line(verdict.summary)}",
            *shown,
            *([f"  | and {left} more (--json lists all)"] if left else []),
            f"  remedy: {verdict.remedy}",
            *([f"  see: {'; '.join(verdict.references)}"] if verdict.references else []),
        ]
    )
