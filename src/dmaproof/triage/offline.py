"""Triage of logs alone: no test, only what was written down, and what a saved machine says of itself."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dmaproof.evidence.event import Event
from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.storm import Entry
from dmaproof.pci import address_map
from dmaproof.rig.model import Node, Rig
from dmaproof.triage import bus_facts
from dmaproof.triage.about import times
from dmaproof.triage.alignment import UNALIGNED, Offset
from dmaproof.triage.blind_spots import is_foreign
from dmaproof.triage.judge import judge
from dmaproof.triage.signatures import unattributed
from dmaproof.triage.verdict import Case, Verdict

TEST = "(log)"
"""What a Case without a test calls its test."""
_LOG_ALONE = "only a log was read: NVML, config space and the IOMMU's state were not looked at"
_ARCHIVE = "a saved machine was read: NVML was not asked, and its state is that of when it was saved"
_NO_TEST = "no test: which memory and which devices were in use, and whether anything hung, is not known"
_NO_RIG = "no rig was given: a fault address cannot be named as a BAR of a certain GPU"
_NOT_THIS_RIG = "no event of the log is of a GPU of the rig that was given: its addresses were not used"
_CONTEXT = ("fault-status", "suppressed", "overflow")  # they accompany faults, and are blind spots where they matter


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """One log as read: what is different in it (storms are one entry each). ``offset`` puts its times on the clock that
    all logs are shown on."""

    name: str
    entries: tuple[Entry, ...]
    offset: Offset = UNALIGNED

    @property
    def events(self) -> tuple[Event, ...]:
        return tuple(entry.event for entry in self.entries)


def case(log: Log, rig: Rig | None, root: Path | None = None, others: Sequence[Log] = ()) -> Case:
    """The Case of ``log``; with no ``rig``, or one of another machine (see ``strangers``), a node of which nothing is
    known stands in. ``root`` is that of the saved machine that the log is from; ``others`` are logs of other nodes.

    It has no endpoints: every device of the node counts. Times are the log's own where it was not aligned.
    """
    fits = rig is not None and not strangers(log.events, rig)
    declared = rig if rig is not None and fits else _unknown_rig()
    node = node_of(log, declared)
    seen = [_evidence(entry, log, node.name) for entry in log.entries]
    on_the_bus = bus_facts.facts(root, node.name, [gpu.bdf for gpu in node.gpus]) if root is not None and fits else ()
    unseen = [_LOG_ALONE if root is None else _ARCHIVE, _NO_TEST]
    unseen += [] if fits else [_NO_RIG if rig is None else _NOT_THIS_RIG]
    given = Case(
        test=TEST,
        error="",
        rig=declared,
        node=node,
        evidence=(
            *on_the_bus,
            *seen,
            *(_read_beside(other, declared) for other in others),
            *(_blind_spot(text, log, node.name) for text in unseen),
        ),
        watched=(log.name,),
    )
    return given if root is None or not fits else replace(given, addresses=address_map.of_sysfs(root))


def strangers(events: Iterable[Event], rig: Rig) -> tuple[str, ...]:
    """The BDFs that ``events`` name, where not one of them is a GPU of ``rig`` or a port above one: the log is of
    another machine."""
    named = {event.bdf for event in events if event.bdf is not None}
    known = {bdf for node in rig.nodes for gpu in node.gpus for bdf in (gpu.bdf, gpu.port)}
    known |= {bdf for node in rig.nodes for one in node.switch.values() for bdf in (one.upstream, one.port)}
    return tuple(sorted(named)) if known and named and not named & known else ()


def conclude(case: Case) -> tuple[Verdict, ...]:
    """The verdicts on a log's events: none without events. Where no signature matches, one ``unattributed`` verdict
    that holds them all: nothing failed here, and there is no window to look into."""
    verdicts = judge(case)
    if verdicts[0].signature not in (unattributed.ID, unattributed.HANG_ID):
        return verdicts
    events = unexplained(case, ())
    if not events:
        return ()
    count = sum(map(times, events))
    number = f"{count} event{'' if count == 1 else 's'}"
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
    """The events that no verdict but ``unattributed`` rests on or explains, in the log's order.

    Beside a verdict, lines that only accompany faults are left out: they are its blind spots.
    """
    named = [verdict for verdict in verdicts if verdict.signature != unattributed.ID]
    explained = {one.text for verdict in named for one in verdict.evidence}
    follow = {id(one) for verdict in named for one in verdict.explains}
    return tuple(
        one
        for one in case.evidence
        if one.event is not None
        and one.text not in explained
        and id(one) not in follow
        and not (explained and one.kind in _CONTEXT)
        and not is_foreign(one)
    )


def node_of(log: Log, rig: Rig) -> Node:
    """The node that the log is from: the one called as it, else the one whose GPUs its events name most, the first
    where none is named."""
    if log.name in rig.node:
        return rig.node[log.name]
    named = [event.bdf for event in log.events if event.bdf is not None]
    return max(rig.nodes, key=lambda node: sum(named.count(gpu.bdf) for gpu in node.gpus))


def _unknown_rig() -> Rig:
    return Rig.model_validate({"name": "host", "kind": "host", "node": {"host": {}}})


def _evidence(entry: Entry, log: Log, node: str) -> Evidence:
    event, offset = entry.event, log.offset
    return Evidence(
        source=log.name,
        node=node,
        time_s=(event.time if event.time is not None else 0.0) + (offset.seconds or 0.0),
        uncertainty_s=math.inf if offset.by in ("first", "none") else offset.uncertainty_s,
        kind=event.kind,
        text=event.text,
        event=event,
        fact=entry.storm,
    )


def _read_beside(other: Log, rig: Rig) -> Evidence:
    """That another node's log was read too: a guest's IOMMU faults are in its host's."""
    role = rig.node[other.name].role if other.name in rig.node else "host"
    text = f"{other.name}: its log was read too"
    return Evidence(source=other.name, node=other.name, time_s=0.0, kind="kernel-log", text=text, data={"role": role})


def _blind_spot(text: str, log: Log, node: str) -> Evidence:
    return Evidence(source=log.name, node=node, time_s=0.0, uncertainty_s=math.inf, kind="blind-spot", text=text)
