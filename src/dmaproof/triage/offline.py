"""Triage of a log alone: no test, no hardware, only what was written down."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from dmaproof.evidence.event import Event
from dmaproof.evidence.evidence import Evidence
from dmaproof.rig.model import Node, Rig
from dmaproof.triage.verdict import Case

TEST = "(log)"
"""What a Case without a test calls its test."""
_LOG_ALONE = "only a log was read: NVML, config space and the IOMMU's state were not looked at"
_NO_TEST = "no test: which memory and which devices were in use, and whether anything hung, is not known"
_NO_RIG = "no rig was given: a fault address cannot be named as a BAR of a certain GPU"


def case(events: Iterable[Event], log: str, rig: Rig | None) -> Case:
    """The Case of ``events`` decoded from ``log``; with no ``rig``, a node of which nothing is known stands in.

    Times are the log's own (kernel clock, seconds), of unbounded uncertainty against anything else.
    """
    known = tuple(events)
    declared = rig if rig is not None else _unknown_rig()
    node = node_of(known, declared)
    seen = [_evidence(event, log, node.name) for event in known]
    unseen = [_LOG_ALONE, _NO_TEST, *([] if rig is not None else [_NO_RIG])]
    return Case(
        test=TEST,
        error="",
        rig=declared,
        node=node,
        endpoints=tuple(sorted({event.bdf for event in known if event.bdf is not None})),
        evidence=(*seen, *(_blind_spot(text, log, node.name) for text in unseen)),
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
