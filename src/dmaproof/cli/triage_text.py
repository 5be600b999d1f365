"""The answer of ``dmaproof triage`` for a person: verdicts first, then what they leave, then what could not be seen."""

from __future__ import annotations

from collections.abc import Sequence

from dmaproof.cli.judged import Judged, timeline, unaligned, unseen
from dmaproof.cli.logs import one_line, readable
from dmaproof.evidence.evidence import Evidence
from dmaproof.report.text import counted
from dmaproof.triage.about import times, told
from dmaproof.triage.offline import unexplained
from dmaproof.triage.signatures import unattributed
from dmaproof.triage.verdict import Verdict

_MOST_EVENTS = 20
_MOST_EVIDENCE = 5  # a fault storm has thousands of lines that say the same


def as_text(judged: Sequence[Judged]) -> str:
    parts = [part for one in judged for part in _parts(one, several=len(judged) > 1)]
    if not parts:
        lines = sum(one.read.reader.decoder.lines for one in judged)
        parts = [f"nothing found: no known event in {counted(lines, 'line')}"]
    if len(judged) > 1:
        parts.append(_timeline(judged))
    spots = dict.fromkeys(spot for one in judged for spot in unseen(one))
    parts.append("not seen:\n" + "\n".join(f"  - {one_line(spot)}" for spot in spots))
    return "\n\n".join(parts)


def _parts(one: Judged, *, several: bool) -> list[str]:
    """What is to be told of one log; nothing of one that holds nothing."""
    of = f"{one.read.log.name}: " if several else ""
    left = unexplained(one.case, one.verdicts)
    parts = [of + _verdict(verdict) for verdict in one.verdicts if verdict.signature != unattributed.ID]
    if left:
        nothing_named = f"{of}unattributed: {one.verdicts[0].summary}" if one.verdicts else of
        heading = f"{of}not explained by any verdict:" if parts else nothing_named
        parts.append("\n".join([heading, *_listed(left)]))
    if one.read.reader.undecoded:
        parts.append("\n".join(of + note for note in one.read.reader.notes()))
    return parts


def _listed(events: Sequence[Evidence]) -> list[str]:
    """One line for each different text: a storm says one thing thousands of times."""
    count: dict[str, int] = {}
    first: dict[str, Evidence] = {}
    for one in events:
        count[one.text] = count.get(one.text, 0) + times(one)
        first.setdefault(one.text, one)
    shown = [
        f"  | {readable(one.event)}" + (f" ({count[text]} times)" if count[text] > 1 else "")
        for text, one in list(first.items())[:_MOST_EVENTS]
        if one.event is not None
    ]
    left = len(first) - len(shown)
    return [*shown, *([f"  | and {left} more (--json lists all)"] if left else [])]


def _verdict(verdict: Verdict) -> str:
    follow = [one for one in verdict.explains if one.event is not None]
    return "\n".join(
        [
            f"{verdict.signature} ({verdict.confidence}): {one_line(verdict.summary)}",
            *_few(verdict.evidence),
            *(["  explains also:", *_few(follow)] if follow else []),
            f"  remedy: {verdict.remedy}",
            *([f"  see: {'; '.join(verdict.references)}"] if verdict.references else []),
        ]
    )


def _few(evidence: Sequence[Evidence]) -> list[str]:
    shown = [f"  | {one_line(told(one))}" for one in evidence[:_MOST_EVIDENCE]]
    left = len(evidence) - len(shown)
    return [*shown, *([f"  | and {left} more (--json lists all)"] if left else [])]


def _timeline(judged: Sequence[Judged]) -> str:
    """All logs on the first one's clock, and how well their clocks are known."""
    events = timeline(judged)
    shown = [f"  | {one.time_s:14.6f} {name}: {one_line(told(one))}" for name, one in events[:_MOST_EVENTS]]
    left = len(events) - len(shown)
    more = [f"  | and {left} more (--json lists all)"] if left else []
    return "\n".join([f"timeline ({'; '.join(_clock(one, judged) for one in judged)}):", *shown, *more])


def _clock(one: Judged, judged: Sequence[Judged]) -> str:
    offset, name = one.read.log.offset, one.read.log.name
    if name in unaligned(judged):
        return f"{name}: not aligned, its own clock, listed last (give --clock-offset {name}=SECONDS)"
    if offset.by == "first":
        return f"clock of {name}"
    how = {"given": "as given", "wall-clock": "by the wall clock", "events": "by events that both tell"}[offset.by]
    unsure = f" ± {offset.uncertainty_s:g} s" if offset.uncertainty_s else ""
    return f"{name} {offset.seconds:+.3f} s{unsure}, {how}"
