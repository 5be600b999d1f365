"""What a record says, gathered for a reader: verdicts by cause, skips by reason, blind spots, counts, times."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import get_args

from pydantic import ValidationError

from dmaproof.report.loaded import Record, TestRecord
from dmaproof.report.record import DeviceLine, Outcome, TestLine, VerdictLine
from dmaproof.rig.model import Rig
from dmaproof.triage.verdict import Confidence

CONFIDENCES: tuple[str, ...] = get_args(Confidence)


@dataclass(frozen=True, slots=True)
class Seen:
    """A line of evidence. ``after_s`` is seconds since the first evidence of its test, None if not known."""

    text: str
    after_s: float | None = None
    node: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict of one test with its evidence."""

    verdict: VerdictLine
    seen: tuple[Seen, ...]


@dataclass(frozen=True, slots=True)
class Cause:
    """All findings of one signature, the surest first."""

    signature: str
    findings: tuple[Finding, ...]

    @property
    def tests(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(finding.verdict.test for finding in self.findings))

    @property
    def confidences(self) -> tuple[tuple[str, int], ...]:
        """Each confidence with the number of findings, the surest first."""
        often = Counter(finding.verdict.confidence for finding in self.findings)
        return tuple(sorted(often.items(), key=lambda item: _rank(item[0])))

    @property
    def blind_spots(self) -> tuple[str, ...]:
        return _each(finding.verdict.blind_spots for finding in self.findings)

    @property
    def remedies(self) -> tuple[str, ...]:
        return _each((finding.verdict.remedy,) for finding in self.findings if finding.verdict.remedy)

    @property
    def references(self) -> tuple[str, ...]:
        return _each(finding.verdict.references for finding in self.findings)


def _each(parts: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for part in parts for text in part))


def _rank(confidence: str) -> int:
    return CONFIDENCES.index(confidence) if confidence in CONFIDENCES else len(CONFIDENCES)


def causes(record: Record) -> list[Cause]:
    """One for each signature: named causes before unattributed ones, then the surest, then the most frequent."""
    found: dict[str, list[Finding]] = {}
    for test in record.by_test.values():
        for verdict in test.verdicts:
            found.setdefault(verdict.signature, []).append(Finding(verdict, _seen(verdict, test)))
    named = [
        Cause(signature, tuple(sorted(findings, key=lambda one: _rank(one.verdict.confidence))))
        for signature, findings in found.items()
    ]
    return sorted(named, key=_weight)


def _weight(cause: Cause) -> tuple[bool, int, int]:
    return cause.signature.startswith("unattributed"), _rank(cause.confidences[0][0]), -len(cause.tests)


def _seen(verdict: VerdictLine, test: TestRecord) -> tuple[Seen, ...]:
    first = min((line.time_s for line in test.evidence), default=0.0)
    timed = [line for line in reversed(test.evidence) if math.isfinite(line.time_s - first)]
    known = {line.text: Seen(line.text, line.time_s - first, line.node, line.source) for line in timed}
    return tuple(known.get(text, Seen(text)) for text in verdict.evidence)


def without_verdict(record: Record) -> list[TestLine]:
    """Failed and erroneous tests for which no signature spoke."""
    judged = {verdict.test for verdict in record.verdicts}
    return [test for test in record.tests if test.outcome in ("failed", "error") and test.id not in judged]


def counts(record: Record) -> dict[Outcome, int]:
    """The number of tests of each outcome; outcomes that did not occur are 0."""
    often = Counter(test.outcome for test in record.tests)
    return {outcome: often[outcome] for outcome in ("passed", "failed", "error", "skipped")}


def skips(record: Record) -> list[tuple[str, tuple[str, ...]]]:
    """(reason, ids of the tests skipped for it), the most frequent reason first."""
    reasons: dict[str, list[str]] = {}
    for test in record.tests:
        if test.outcome == "skipped":
            reasons.setdefault(test.message or "no reason given", []).append(test.id)
    return sorted(((reason, tuple(ids)) for reason, ids in reasons.items()), key=lambda item: -len(item[1]))


def blind_spots(record: Record) -> list[tuple[str, int]]:
    """(what could not be seen, in how many places it is said), for the run and for its verdicts."""
    often = Counter(line.text for line in record.evidence if line.what in ("blind-spot", "records-lost"))
    often.update(spot for verdict in record.verdicts for spot in verdict.blind_spots)
    return often.most_common()


def devices(record: Record) -> list[tuple[DeviceLine, int]]:
    """(the first word on a device, how often the same was said), poisoned devices first."""
    said: dict[tuple[str, str, str], list[DeviceLine]] = {}
    for device in record.devices:
        said.setdefault((device.bdf, device.state, device.reason), []).append(device)
    return sorted(((lines[0], len(lines)) for lines in said.values()), key=lambda item: item[0].state != "poisoned")


def declared(record: Record) -> Rig | None:
    """The rig of the record, or None if it is missing or of a form that this version does not know."""
    try:
        return Rig.model_validate(record.rig.declared) if record.rig else None
    except ValidationError:
        return None


def moment(text: str) -> datetime | None:
    """The ISO 8601 ``text`` in UTC, or None if it is none."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def seconds(record: Record) -> float:
    """How long the run took; of a run cut short, how long the tests took that it recorded."""
    start, end = moment(record.start.time), moment(record.end.time) if record.end else None
    if start is not None and end is not None and end >= start:
        return (end - start).total_seconds()
    return sum(test.duration_s for test in record.tests)


def slowest(tests: Sequence[TestLine], number: int) -> list[TestLine]:
    return sorted(tests, key=lambda test: -test.duration_s)[:number]


def cut_short(record: Record) -> str:
    """One sentence if the record is not whole, else nothing."""
    if record.whole:
        return ""
    what = "The last line of the record is cut" if record.truncated else "The record has no end line"
    return (
        f"{what}: the run did not come to its end, and what came after {len(record.tests)} recorded tests is not known."
    )
