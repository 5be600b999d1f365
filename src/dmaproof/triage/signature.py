"""What a signature is: one named cause, and how it is recognised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from dmaproof.evidence.evidence import Evidence
from dmaproof.triage.verdict import Case, Confidence

Floor = Literal["cause", "effect", "bystander"]
"""``cause`` explains others; an ``effect`` is named only for what no cause explains; a ``bystander`` last of all."""
FLOORS: tuple[Floor, ...] = ("cause", "effect", "bystander")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A signature found in a case. ``evidence`` is what it rests on, for people. ``explains`` is all that follows from
    the cause, shown or not: floors below no longer see it (nor ``evidence``)."""

    confidence: Confidence
    summary: str
    evidence: tuple[Evidence, ...]
    explains: tuple[Evidence, ...] = ()
    blind_spots: tuple[str, ...] = ()
    remedy: str | None = None
    """In place of the signature's own, where the case tells more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One named cause. ``id`` is a public contract; ``title``, ``needs`` and ``excludes`` are one sentence each for the
    page of signatures in docs/, made from the code. ``match`` looks only at what a real machine shows.
    """

    id: str
    title: str
    needs: str
    excludes: str
    remedy: str
    references: tuple[str, ...]
    match: Callable[[Case], Finding | None]
    floor: Floor = "cause"
