"""Every signature looks at the case; what explains it is named, the strongest first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from dmaproof.evidence.evidence import Evidence
from dmaproof.triage import about
from dmaproof.triage.blind_spots import blind_spots
from dmaproof.triage.signature import FLOORS, Finding, Floor, Signature
from dmaproof.triage.signatures import SIGNATURES, unattributed
from dmaproof.triage.verdict import Case, Verdict

_ORDER = {"certain": 0, "probable": 1, "possible": 2}
Found = tuple[Signature, Finding]


def judge(case: Case) -> tuple[Verdict, ...]:
    """The verdicts on ``case``, the most confident first, then by floor and id: always at least one, if only that
    nothing explains it.

    Verdicts of two independent causes are both kept. Every verdict carries the blind spots of the case.
    """
    verdicts = [_verdict(case, *one) for one in sorted(found(case), key=_rank)] or [unattributed.conclude(case)]
    unseen = blind_spots(case)
    return tuple(
        replace(verdict, evidence=_distinct(verdict.evidence), blind_spots=_once((*verdict.blind_spots, *unseen)))
        for verdict in verdicts
    )


def found(case: Case) -> list[Found]:
    """What the signatures find, floor by floor: a floor sees only what those above it leave unexplained."""
    everything: list[Found] = []
    for floor in FLOORS:
        findings = _on(floor, case)
        everything += findings
        case = _without(case, [one for _, finding in findings for one in (*finding.evidence, *finding.explains)])
    return everything


def _on(floor: Floor, case: Case) -> list[Found]:
    """Within a floor what one finding explains is hidden from the signatures after it: a GPU that is gone because its
    port contained an error is no cause of its own, but another GPU that is gone beside it still is."""
    findings: list[Found] = []
    for signature in SIGNATURES:
        if signature.floor == floor and (finding := signature.match(case)) is not None:
            findings.append((signature, finding))
            case = _without(case, finding.explains)
    return findings


def _without(case: Case, explained: Iterable[Evidence]) -> Case:
    """Hangs stay: that a test hung is no one's alone."""
    gone = {id(one) for one in explained if one.kind != "hang"}

    def left(evidence: tuple[Evidence, ...]) -> tuple[Evidence, ...]:
        return tuple(one for one in evidence if id(one) not in gone)

    return replace(case, evidence=left(case.evidence), session=left(case.session)) if gone else case


def _rank(found: Found) -> tuple[int, int, str]:
    signature, finding = found
    return _ORDER[finding.confidence], FLOORS.index(signature.floor), signature.id


def _verdict(case: Case, signature: Signature, finding: Finding) -> Verdict:
    return Verdict(
        signature=signature.id,
        confidence=finding.confidence,
        summary=finding.summary,
        evidence=finding.evidence,
        blind_spots=finding.blind_spots,
        remedy=_addressed(case, finding.summary, finding.remedy or signature.remedy),
        references=signature.references,
        explains=_besides(finding),
    )


def _besides(finding: Finding) -> tuple[Evidence, ...]:
    shown = {id(one) for one in finding.evidence}
    return tuple({id(one): one for one in finding.explains if id(one) not in shown}.values())


def _addressed(case: Case, summary: str, remedy: str) -> str:
    """``remedy`` with the GPU that ``summary`` blames, and the port above it, in place of ``<GPU>`` and ``<port>``: its
    commands can then be pasted. Where it blames several, or names none, the reader has to say which."""
    blamed = [gpu for gpu in case.node.gpus if gpu.bdf in summary]
    if len(blamed) != 1:
        return remedy
    port = about.port_of(case.node, blamed[0].bdf) or "<port>"
    return remedy.replace("<GPU>", blamed[0].bdf).replace("<port>", port)


def _distinct(evidence: tuple[Evidence, ...]) -> tuple[Evidence, ...]:
    """The first of each text: a storm repeats one line thousands of times, and the record has them all."""
    return tuple({one.text: one for one in reversed(evidence)}.values())[::-1]


def _once(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))
