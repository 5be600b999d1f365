"""Every signature looks at the case; what explains it is named, the strongest first."""

from __future__ import annotations

from dataclasses import replace

from dmaproof.evidence.evidence import Evidence
from dmaproof.triage.blind_spots import blind_spots
from dmaproof.triage.signature import FLOORS, Finding, Floor, Signature
from dmaproof.triage.signatures import SIGNATURES, unattributed
from dmaproof.triage.verdict import Case, Verdict

_ORDER = {"certain": 0, "probable": 1, "possible": 2}


def judge(case: Case) -> tuple[Verdict, ...]:
    """The verdicts on ``case``, the most confident first; always at least one, if only that nothing explains it.

    Verdicts of two independent causes are both kept. Every verdict carries the blind spots of the case.
    """
    verdicts = sorted(found(case), key=lambda verdict: _ORDER[verdict.confidence]) or [unattributed.conclude(case)]
    unseen = blind_spots(case)
    return tuple(
        replace(verdict, evidence=_distinct(verdict.evidence), blind_spots=(*verdict.blind_spots, *unseen))
        for verdict in verdicts
    )


def found(case: Case) -> list[Verdict]:
    """What the signatures find, floor by floor: a floor sees only what those above it leave unexplained."""
    verdicts: list[Verdict] = []
    for floor in FLOORS:
        findings = [(one, finding) for one in _of(floor) if (finding := one.match(case)) is not None]
        verdicts += [_verdict(signature, finding) for signature, finding in findings]
        case = _without(case, [finding for _, finding in findings])
    return verdicts


def _of(floor: Floor) -> list[Signature]:
    return [one for one in SIGNATURES if one.floor == floor]


def _without(case: Case, findings: list[Finding]) -> Case:
    """Hangs stay: that a test hung is no one's alone."""
    explained = {id(one) for finding in findings for one in (*finding.evidence, *finding.explains)}

    def left(evidence: tuple[Evidence, ...]) -> tuple[Evidence, ...]:
        return tuple(one for one in evidence if id(one) not in explained or one.kind == "hang")

    return replace(case, evidence=left(case.evidence), session=left(case.session))


def _verdict(signature: Signature, finding: Finding) -> Verdict:
    return Verdict(
        signature=signature.id,
        confidence=finding.confidence,
        summary=finding.summary,
        evidence=finding.evidence,
        blind_spots=finding.blind_spots,
        remedy=finding.remedy or signature.remedy,
        references=signature.references,
    )


def _distinct(evidence: tuple[Evidence, ...]) -> tuple[Evidence, ...]:
    """The first of each text: a storm repeats one line thousands of times, and the record has them all."""
    return tuple({one.text: one for one in reversed(evidence)}.values())[::-1]
