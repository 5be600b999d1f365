"""Triage of a log alone: no test, no hardware, only what was written down."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from dmaproof.evidence.event import Event
from dmaproof.evidence.evidence import Evidence
from dmaproof.rig.model import Node, Rig
from dmaproof.triage.judge import judge
from dmaproof.triage.signatures import unattributed
from dmaproof.triage.verdict import Case, Verdict

TEST = "(log)"
"""What a Case without a test calls its test."""
_LOG_ALONE = "only a log was read: NVML, config space and the IOMMU's state were not looked at"
_NO_TEST = "no test: which memory and which devices were in use, and whether anything hung, is not known"
_NO_RIG = "no rig was given: a fault address cannot be named as a BAR of a certain GPU"
_NOT_THIS_RIG = "no event of the log is of a GPU of the rig that was given: its addresses were not used"
_CONTEXT = ("fault-status", "suppressed", "overflow")  # they accompany faults, and are blind spots where they matter


def case(events: Iterable[Event], log: str, rig: Rig | None) -> Case:
    """The Case of ``events`` decoded from ``log``; with no ``rig``, or one of another machine (see ``strangers``), a
    node of which nothing is known stands in.

    Times are the log's own (kernel clock, seconds), of unbounded uncertainty against anything else.
    """
    known = tuple(events)
    fits = rig is not None and not strangers(known, rig)
    declared = rig if rig is not None and fits else _unknown_rig()
    node = node_of(known, declared)
    seen = [_evidence(event, log, node.name) for event in known]
    unseen = [_LOG_ALONE, _NO_TEST, *([] if fits else [_NO_RIG if rig is None else _NOT_THIS_RIG])]
    return Case(
        test=TEST,
        error="",
        rig=declared,
        node=node,
        endpoints=tuple(sorted({event.bdf for event in known if event.bdf is not None})),
        evidence=(*seen, *(_blind_spot(text, log, node.name) for text in unseen)),
    )


def strangers(events: Iterable[Event], rig: Rig) -> tuple[str, ...]:
    """The BDFs that ``events`` name, where not one of them is a GPU of ``rig``: the log is of another machine."""
    named = {event.bdf for event in events if event.bdf is not None}
    gpus = {gpu.bdf for node in rig.nodes for gpu in node.gpus}
    return tuple(sorted(named)) if gpus and not named & gpus else ()


def conclude(case: Case) -> tuple[Verdict, ...]:
    """The verdicts on a log's events: none without events. Where no signature matches, one ``unattributed`` verdict
    that holds them all: nothing failed here, and there is no window to look into."""
    events = unexplained(case, ())
    if not events:
        return ()
    verdicts = judge(case)
    if verdicts[0].signature not in (unattributed.ID, unattributed.HANG_ID):
        return verdicts
    number = f"{len(events)} event{'' if len(events) == 1 else 's'}"
    remedy = "Read the events; if they name a cause, it deserves a signature."
    return (
        replace(
            verdicts[0],
            signature=unattributed.ID,
            summary=f"{number} that no signature explains",
            evidence=tuple({one.text: one for one in events}.values()),
            remedy=remedy,
        ),
    )


def unexplained(case: Case, verdicts: Iterable[Verdict]) -> tuple[Evidence, ...]:
    """The events that no verdict but ``unattributed`` rests on, repeats included, in the log's order.

    Beside a verdict, lines that only accompany faults are left out: they are its blind spots.
    """
    explained = {one.text for verdict in verdicts if verdict.signature != unattributed.ID for one in verdict.evidence}
    return tuple(
        one
        for one in case.evidence
        if one.event is not None and one.text not in explained and not (explained and one.kind in _CONTEXT)
    )


def node_of(events: Sequence[Event], rig: Rig) -> Node:
    """The node that the log is from: the one whose GPUs the events name most, the first where none is named."""
    named = [event.bdf for event in events if event.bdf is not None]
    return max(rig.nodes, key=lambda node: sum(named.count(gpu.bdf) for gpu in node.gpus))


def _unknown_rig() -> Rig:
    return Rig.model_validate({"name": "host", "kind": "host", "node": {"host": {}}})


def _evidence(event: Event, log: str, node: str) -> Evidence:
    return Evidence(
        source=log,
        node=node,
        time_s=event.time if event.time is not None else 0.0,
        uncertainty_s=math.inf,
        kind=event.kind,
        text=event.text,
        event=event,
    )


def _blind_spot(text: str, log: str, node: str) -> Evidence:
    return Evidence(source=log, node=node, time_s=0.0, uncertainty_s=math.inf, kind="blind-spot", text=text)
