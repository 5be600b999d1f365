"""``dmaproof triage``: what a kernel log, with no test and no hardware at hand, says is to blame."""

from __future__ import annotations

import json
from typing import Any

import click

from dmaproof.cli import findings
from dmaproof.cli.logs import log_argument, one_line, reading
from dmaproof.evidence.decode import Decoded, decode_whole
from dmaproof.report.text import counted
from dmaproof.rig.host import resolve
from dmaproof.triage.blind_spots import blind_spots
from dmaproof.triage.judge import judge
from dmaproof.triage.offline import case as case_of
from dmaproof.triage.verdict import Case, Verdict

_MOST_EVIDENCE = 5  # a fault storm has thousands of lines that say the same


@click.command("triage")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with all evidence.")
@click.option("--rig", "rig_word", metavar="RIG", help="The rig the log is from: its BARs give fault addresses names.")
@log_argument
def command(as_json: bool, rig_word: str | None, log: str) -> None:
    """Name what a kernel log says is to blame, and what the log cannot show.

    LOG is a file or - for standard input. Exit status: 0 nothing found, 1 a verdict, 2 LOG or RIG cannot be read.
    """
    rig = resolve(rig_word).rig if rig_word is not None else None
    with reading(log) as stream:
        decoded = decode_whole(stream)
    case = case_of(decoded.events, log, rig)
    verdicts = judge(case) if decoded.events else ()
    click.echo(json.dumps(_as_json(case, decoded, verdicts)) if as_json else _as_text(case, decoded, verdicts))
    if verdicts:
        findings()


def _as_json(case: Case, decoded: Decoded, verdicts: tuple[Verdict, ...]) -> dict[str, Any]:
    return {
        "rig": case.rig.id,
        "node": case.node.name,
        "lines": decoded.lines,
        "unknown": decoded.unknown,
        "events": len(decoded.events),
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
        "blind_spots": _unseen(case, verdicts),
    }


def _unseen(case: Case, verdicts: tuple[Verdict, ...]) -> list[str]:
    """Every verdict of one log has the same blind spots: they are said once, after all verdicts."""
    spots = [spot for verdict in verdicts for spot in verdict.blind_spots] or blind_spots(case)
    return list(dict.fromkeys(spots))


def _as_text(case: Case, decoded: Decoded, verdicts: tuple[Verdict, ...]) -> str:
    parts = [_verdict_text(verdict) for verdict in verdicts]
    parts = parts or [f"nothing found: no known event in {counted(decoded.lines, 'line')}"]
    parts.append("not seen:\n" + "\n".join(f"  - {one_line(spot)}" for spot in _unseen(case, verdicts)))
    return "\n\n".join(parts)


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
