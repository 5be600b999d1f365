"""One log, read and judged: what ``dmaproof triage`` tells as text or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dmaproof.cli.undecoded import LogReader
from dmaproof.evidence.evidence import Evidence
from dmaproof.triage.blind_spots import blind_spots
from dmaproof.triage.offline import Log
from dmaproof.triage.verdict import Case, Verdict


@dataclass(frozen=True, slots=True)
class Read:
    """``boot`` is when the kernel's clock of this log began, on the wall clock, where its lines show that."""

    log: Log
    reader: LogReader
    boot: float | None


@dataclass(frozen=True, slots=True)
class Judged:
    """A log with its Case and the verdicts on it."""

    read: Read
    case: Case
    verdicts: tuple[Verdict, ...]


def unseen(one: Judged) -> list[str]:
    """Every verdict of one log has the same blind spots: they are said once, after all verdicts."""
    spots = [spot for verdict in one.verdicts for spot in verdict.blind_spots] or blind_spots(one.case)
    return list(dict.fromkeys(spots))


def unaligned(judged: Sequence[Judged]) -> list[str]:
    """Logs whose times could not be put on the first one's clock."""
    return [one.read.log.name for one in judged if one.read.log.offset.seconds is None]


def timeline(judged: Sequence[Judged]) -> list[tuple[str, Evidence]]:
    """All events of all logs in order of time, each with its log's name; logs that were not aligned come last."""
    lost = unaligned(judged)
    events = [(one.read.log.name, each) for one in judged for each in one.case.evidence if each.event is not None]
    return sorted(events, key=lambda pair: (pair[0] in lost, pair[1].time_s))
