"""What a record says, gathered for a reader: verdicts by cause, failures without one, skips by reason, devices."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from pydantic import ValidationError

from dmaproof.report import notes
from dmaproof.report.loaded import Record
from dmaproof.report.record import DeviceLine, Outcome, TestLine, VerdictLine
from dmaproof.report.seen import Seen, seen
from dmaproof.report.text import Alike, alike
from dmaproof.rig.model import Rig
from dmaproof.triage.verdict import Confidence

# The refusal of dmaproof.node.locks; the reason names the test after which the device's probe failed.
_POISONED = re.compile(r"(?P<device>\S+) is not fit for use in this run(?:: after (?P<after>.+?)(?=: |\n|$))?")
CONFIDENCES: tuple[str, ...] = get_args(Confidence)


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict of one test with its evidence."""

    verdict: VerdictLine
    seen: tuple[Seen, ...]


@dataclass(frozen=True, slots=True)
class Cause:
    """All findings of one signature, the surest first. ``run_blind`` is what the whole run could not see."""

    signature: str
    findings: tuple[Finding, ...]
    run_blind: frozenset[str] = frozenset()

    @property
    def tests(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(finding.verdict.test for finding in self.findings))

    @property
    def confidences(self) -> tuple[tuple[str, int], ...]:
        """Each confidence with the number of findings, the surest first."""
        often = Counter(finding.verdict.confidence for finding in self.findings)
        return tuple(sorted(often.items(), key=lambda item: _rank(item[0])))

    @property
    def summaries(self) -> tuple[tuple[str, int], ...]:
        """Each thing that is said to have happened with its number of tests: one cause may act both ways."""
        tests: dict[str, set[str]] = {}
        for finding in self.findings:
            tests.setdefault(finding.verdict.summary, set()).add(finding.verdict.test)
        return tuple(sorted(((text, len(ids)) for text, ids in tests.items()), key=lambda item: -item[1]))

    @property
    def blind_spots(self) -> list[Alike]:
        """Those of these findings; what the whole run could not see is told once, of the run."""
        spots = _each(finding.verdict.blind_spots for finding in self.findings)
        return alike(spot for spot in spots if spot not in self.run_blind)

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
            found.setdefault(verdict.signature, []).append(Finding(verdict, seen(verdict.evidence, test.evidence)))
    blind = frozenset(notes.run_blind(record))
    named = [
        Cause(signature, tuple(sorted(findings, key=lambda one: _rank(one.verdict.confidence))), blind)
        for signature, findings in found.items()
    ]
    return sorted(named, key=_weight)


def _weight(cause: Cause) -> tuple[bool, int, int]:
    return cause.signature.startswith("unattributed"), _rank(cause.confidences[0][0]), -len(cause.tests)


def without_verdict(record: Record) -> list[TestLine]:
    """Failed and erroneous tests for which no signature spoke."""
    judged = {verdict.test for verdict in record.verdicts}
    return [test for test in record.tests if test.outcome in ("failed", "error") and test.id not in judged]


@dataclass(frozen=True, slots=True)
class NotRun:
    """Tests that were refused a device which an earlier test had spoilt."""

    device: str
    after: str
    tests: tuple[str, ...]


def refused(record: Record) -> list[NotRun]:
    """The tests without a verdict that a poisoned device kept from running, by device."""
    found: dict[tuple[str, str], list[str]] = {}
    for test in without_verdict(record):
        if match := _POISONED.search(test.message):
            found.setdefault((match["device"], match["after"] or ""), []).append(test.id)
    return [NotRun(device, after, tuple(tests)) for (device, after), tests in found.items()]


def unjudged(record: Record) -> list[TestLine]:
    """Failed and erroneous tests that ran, and of which no signature spoke."""
    return [test for test in without_verdict(record) if not _POISONED.search(test.message)]


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


def slowest(tests: Sequence[TestLine], number: int) -> list[TestLine]:
    return sorted(tests, key=lambda test: -test.duration_s)[:number]
