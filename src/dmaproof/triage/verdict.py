"""What triage is given (a Case) and what it concludes (a Verdict)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

from dmaproof.evidence.evidence import Evidence
from dmaproof.pci.addresses import NOTHING_KNOWN, AddressMap
from dmaproof.rig.model import Node, Rig

Confidence = Literal["certain", "probable", "possible"]
F = TypeVar("F")


@dataclass(frozen=True, slots=True)
class Allocation:
    """Memory that the test itself had: a fault inside it is the test's own traffic."""

    va: int
    nbytes: int
    memory: str

    def holds(self, address: int) -> bool:
        return self.va <= address < self.va + self.nbytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A failed test as triage sees it: what failed, on which rig, and everything observed in its window.

    ``evidence`` is the window in time order. ``session`` is everything observed before the window in the same run,
    for states that outlast the test that met them (a GPU lost an hour ago is still lost). ``endpoints`` are BDFs.
    ``addresses`` is what is known of the node's bus addresses: by the machine, an archive of it, or the rig alone.
    ``pids`` are the processes that worked for the test (empty: not known). A case without endpoints is about every
    device of the node: a log alone, or a test of the whole machine.
    """

    test: str
    error: str
    rig: Rig
    node: Node
    endpoints: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    session: tuple[Evidence, ...] = ()
    allocations: tuple[Allocation, ...] = ()
    watched: tuple[str, ...] = ()
    addresses: AddressMap = NOTHING_KNOWN
    pids: frozenset[int] = frozenset()

    def concerns(self, bdf: str | None) -> bool:
        """Whether what is wrong with ``bdf`` may be held against the test; a device that is not known may be any."""
        return bdf is None or not self.endpoints or bdf in self.endpoints

    def of_kind(self, *kinds: str) -> tuple[Evidence, ...]:
        return tuple(one for one in self.evidence if one.kind in kinds)

    def facts(self, kind: type[F]) -> tuple[tuple[Evidence, F], ...]:
        """The evidence of the window whose fact is a ``kind``, each with its fact."""
        return tuple((one, one.fact) for one in self.evidence if isinstance(one.fact, kind))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One named cause. ``blind_spots`` is what could not be seen, ``remedy`` what to do next. ``explains`` is what
    follows from the cause besides ``evidence``."""

    signature: str
    confidence: Confidence
    summary: str
    evidence: tuple[Evidence, ...]
    blind_spots: tuple[str, ...]
    remedy: str
    references: tuple[str, ...] = ()
    explains: tuple[Evidence, ...] = ()
