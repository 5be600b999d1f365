"""Figures and judgements, between the record's lines and dmaproof.triage.expectation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dmaproof.report import findings
from dmaproof.report.loaded import Record
from dmaproof.report.record import JudgementLine, MeasurementLine
from dmaproof.rig.model import Rig
from dmaproof.triage.expectation import peers
from dmaproof.triage.expectation.figure import Figure, Judgement


def figure(line: MeasurementLine) -> Figure | None:
    """None for a measurement without two ends."""
    if line.source is None or line.target is None:
        return None
    return Figure(
        test=line.test, node=line.node, name=line.name, unit=line.unit, value=line.median, samples=line.samples,
        source=line.source, target=line.target, engine=line.path, peer=line.peer, direction=line.direction,
        case=line.case, nbytes=line.nbytes, memory=line.memory, method=line.method, trained=line.trained,
    )  # fmt: skip


def figures(record: Record) -> list[Figure]:
    return [one for line in record.measurements if (one := figure(line)) is not None]


def among_peers(rig: Rig, found: Sequence[Figure]) -> list[Judgement]:
    """Every node's figures held against each other."""
    return [one for node in rig.nodes for one in peers.judge(node, found)]


def line(one: Judgement) -> JudgementLine:
    return JudgementLine(
        test=one.figure.test, node=one.figure.node, name=one.figure.name, unit=one.figure.unit, value=one.figure.value,
        source=one.figure.source, target=one.figure.target, by=one.by, standing=one.standing, certain=one.certain,
        against=one.against, bound=one.bound, share=one.share, among=one.among, topology=one.topology,
        reason=one.reason, text=one.text, looked_at=one.looked_at,
    )  # fmt: skip


def of_record(record: Record) -> list[JudgementLine]:
    """The judgements of ``record``, worst first. Of a run that did not come to its end the peers are compared here:
    nobody did so there."""
    lines = list(record.judgements)
    rig = findings.declared(record)
    if record.end is None and rig is not None:
        lines += [line(one) for one in among_peers(rig, figures(record))]
    return worst_first(lines)


def worst_first(lines: Iterable[JudgementLine]) -> list[JudgementLine]:
    """What the run fails on, then what else is not fine, then the rest; each by how good it is."""
    return sorted(lines, key=lambda one: (not one.certain, one.standing == "fine", one.share))


def failing(lines: Iterable[JudgementLine]) -> list[JudgementLine]:
    return [one for one in lines if one.certain and one.standing != "fine"]
