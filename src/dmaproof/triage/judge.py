"""Every signature looks at the case; what explains it is named, the strongest first."""

from __future__ import annotations

from dataclasses import replace

from dmaproof.evidence.evidence import Evidence
from dmaproof.triage.blind_spots import blind_spots
from dmaproof.triage.signatures import FALLBACK, SIGNATURES
from dmaproof.triage.verdict import Case, Verdict

_ORDER = {"certain": 0, "probable": 1, "possible": 2}


def judge(case: Case) -> tuple[Verdict, ...]:
    """The verdicts on ``case``, the most confident first; always at least one, if only that nothing explains it.

    Verdicts of two independent causes are both kept. Every verdict carries the blind spots of the case.
    """
    found = [verdict for match in SIGNATURES if (verdict := match(case)) is not None]
    verdicts = sorted(found, key=lambda verdict: _ORDER[verdict.confidence]) or [FALLBACK(case)]
    unseen = blind_spots(case)
    return tuple(
        replace(verdict, evidence=_distinct(verdict.evidence), blind_spots=(*verdict.blind_spots, *unseen))
        for verdict in verdicts
    )


def _distinct(evidence: tuple[Evidence, ...]) -> tuple[Evidence, ...]:
    """The first of each text: a storm repeats one line thousands of times, and the record has them all."""
    return tuple({one.text: one for one in reversed(evidence)}.values())[::-1]
