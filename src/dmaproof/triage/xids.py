"""The Xids of a case, whoever saw them: one that the kernel log, the tracepoint and NVML all tell of is one Xid.

The log has pid, address and text; NVML has only the number and the GPU; neither is always there (nverror.h).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dmaproof.evidence.event import Event
from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import CounterStep
from dmaproof.triage.about import device, of_device, refused_after, slack_s, times
from dmaproof.triage.verdict import Case

ENGINE_EXCEPTION, MMU_FAULT, RESET_CHANNEL, PREEMPTIVE_REMOVAL = 13, 31, 43, 45
DOUBLE_BIT, CONTAINED, UNCONTAINED = 48, 94, 95
REMAPPED, REMAP_FAILED = 63, 64
FALLEN_OFF = 79
GSP_TIMEOUT, GSP_EXCEPTION = 119, 120
RECOVERY_ACTION = 154
NVLINK = (74, *range(144, 151))
VICTIMS = (ENGINE_EXCEPTION, MMU_FAULT, RESET_CHANNEL, PREEMPTIVE_REMOVAL)
"""What a program's channels get, whether the program, its neighbour or the machine is at fault."""
_SAME_S = 5.0


@dataclass(frozen=True, slots=True)
class Xid:
    """One Xid. ``sightings`` has one Evidence for each source that saw it."""

    number: int
    bdf: str | None
    sightings: tuple[Evidence, ...]

    @property
    def event(self) -> Event | None:
        """The decoded line, None where only NVML saw it."""
        return next((one.event for one in self.sightings if one.event is not None), None)

    @property
    def pid(self) -> int | None:
        return self.event.pid if self.event is not None else None

    @property
    def text(self) -> str:
        return self.event.text if self.event is not None else ""

    @property
    def first(self) -> Evidence:
        return self.sightings[0]

    @property
    def sources(self) -> frozenset[str]:
        return frozenset(one.source for one in self.sightings)

    @property
    def count(self) -> int:
        return max(times(one) for one in self.sightings)


def number(one: Evidence) -> int | None:
    """The Xid that ``one`` tells of, None where it tells of none."""
    if one.event is not None:
        return one.event.xid
    value = one.data.get("event_data") if one.kind == "xid-event" else None
    return value if isinstance(value, int) else None


def of(evidence: Iterable[Evidence], *numbers: int) -> tuple[Xid, ...]:
    """The Xids of ``numbers`` (all where none is given), in order of time.

    Sightings by different sources of one number and GPU within a few seconds are one Xid, the first by each.
    """
    found: list[list[Evidence]] = []
    alike: dict[tuple[str | None, int], list[list[Evidence]]] = {}
    next_of: dict[tuple[str | None, int, str], int] = {}
    for one in sorted(evidence, key=lambda one: one.time_s):
        xid = number(one)
        if xid is None or (numbers and xid not in numbers):
            continue
        same = alike.setdefault((device(one), xid), [])
        at = next_of.get((device(one), xid, one.source), 0)
        while at < len(same) and not _is_near(same[at][0], one):
            at += 1
        if at == len(same):
            same.append([])
            found.append(same[at])
        same[at].append(one)
        next_of[device(one), xid, one.source] = at + 1
    return tuple(Xid(number(group[0]) or 0, device(group[0]), tuple(group)) for group in found)


def _is_near(first: Evidence, one: Evidence) -> bool:
    return one.time_s - first.time_s <= _SAME_S + slack_s(one, first)


def seen(case: Case, *numbers: int) -> tuple[Xid, ...]:
    """Those of the window that concern the test."""
    return tuple(xid for xid in of(case.evidence, *numbers) if case.concerns(xid.bdf))


def earlier(case: Case, *numbers: int) -> tuple[Xid, ...]:
    """Those before the window, of the test's own GPUs: for states that outlast the test that met them."""
    return tuple(xid for xid in of(case.session, *numbers) if xid.bdf in case.endpoints)


def is_own(case: Case, xid: Xid) -> bool | None:
    """Whether ``xid`` hit a process of the test's; None where either is not known."""
    if xid.pid is None or not case.pids:
        return None
    return xid.pid in case.pids


def who(xid: Xid) -> str:
    """``process 4711 (python3)``, as far as the line says."""
    if xid.pid is None:
        return "a process"
    name = xid.event.process if xid.event is not None else None
    return f"process {xid.pid} ({name})" if name is not None else f"process {xid.pid}"


def in_own_memory(case: Case, xid: Xid) -> bool:
    va = xid.event.va if xid.event is not None else None
    return va is not None and any(allocation.holds(va) for allocation in case.allocations)


def after(case: Case, first: Xid, *numbers: int) -> tuple[Evidence, ...]:
    """All sightings of ``numbers`` on the GPU of ``first`` that came with or after it (``first`` itself left out).

    The driver's lines about one error come within seconds, in an order of their own: a row is remapped (63) before or
    after the error (94, 95) is told.
    """
    return tuple(
        one
        for xid in of((*case.session, *case.evidence), *numbers)
        if xid.bdf == first.bdf
        and xid.sightings != first.sightings
        and _is_with_or_after(xid.first, first.first)
        and _may_meet(xid, first)
        for one in xid.sightings
    )


def _may_meet(xid: Xid, first: Xid) -> bool:
    """Instances of a GPU (MIG) are kept apart: one's error makes no victims in another."""
    ends = [one.event.gpu_instance for one in (xid, first) if one.event is not None and xid.number in VICTIMS]
    return None in ends or len(set(ends)) < 2


def _is_with_or_after(one: Evidence, first: Evidence) -> bool:
    return first.time_s - one.time_s <= _SAME_S + slack_s(one, first)


def sightings(found: Iterable[Xid]) -> tuple[Evidence, ...]:
    return tuple(one for xid in found for one in xid.sightings)


def consequences(case: Case, first: Xid, *numbers: int) -> tuple[Evidence, ...]:
    """What an error of a GPU brings with it: victims' Xids and those of ``numbers`` after it, the recovery that the
    driver then wants, DMA of engines whose mappings it takes away, and NVML's view of the same GPU."""
    later = after(case, first, *VICTIMS, RECOVERY_ACTION, *numbers)
    told = of_device((*case.session, *case.evidence), first.bdf, "gpu-health", "nvml-event", "probe")
    ecc = [
        one
        for one, step in case.facts(CounterStep)
        if step.bdf == first.bdf and step.counter in ("ecc-correctable", "ecc-uncorrectable")
    ]
    return (*later, *told, *ecc, *refused_after(case.evidence, first.bdf, first.first))
