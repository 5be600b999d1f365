"""The answer of ``dmaproof triage --json``: docs/triage.md is its description."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dmaproof.cli.judged import Judged, timeline, unseen
from dmaproof.evidence.decode import event_json
from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import Storm
from dmaproof.triage.about import times, told
from dmaproof.triage.offline import unexplained

SCHEMA = 1


def as_json(judged: Sequence[Judged]) -> dict[str, Any]:
    first = judged[0].case
    return {
        "schema": SCHEMA,
        "rig": first.rig.id,
        "node": first.node.name,
        "lines": sum(one.read.reader.decoder.lines for one in judged),
        "unknown": sum(one.read.reader.decoder.unknown for one in judged),
        "events": sum(map(_count, judged)),
        "logs": [_log(one) for one in judged],
        "verdicts": [_verdict(one, at) for one in judged for at in range(len(one.verdicts))],
        "unexplained": [
            {"log": one.read.log.name, **_event(each)} for one in judged for each in unexplained(one.case, one.verdicts)
        ],
        "timeline": [{"log": name, "time_s": each.time_s, **_seen(each)} for name, each in timeline(judged)],
        "blind_spots": list(dict.fromkeys(spot for one in judged for spot in unseen(one))),
    }


def _count(one: Judged) -> int:
    return sum(times(each) for each in one.case.evidence if each.event is not None)


def _log(one: Judged) -> dict[str, Any]:
    offset = one.read.log.offset
    return {
        "name": one.read.log.name,
        "node": one.case.node.name,
        "lines": one.read.reader.decoder.lines,
        "unknown": one.read.reader.decoder.unknown,
        "events": _count(one),
        "clock": {"by": offset.by, "offset_s": offset.seconds, "uncertainty_s": offset.uncertainty_s},
    }


def _verdict(one: Judged, at: int) -> dict[str, Any]:
    verdict = one.verdicts[at]
    return {
        "log": one.read.log.name,
        "signature": verdict.signature,
        "confidence": verdict.confidence,
        "summary": verdict.summary,
        "evidence": [told(each) for each in verdict.evidence],
        "explains": [told(each) for each in verdict.explains if each.event is not None],
        "blind_spots": list(verdict.blind_spots),
        "remedy": verdict.remedy,
        "references": list(verdict.references),
    }


def _event(one: Evidence) -> dict[str, Any]:
    fields = event_json(one.event) if one.event is not None else {}
    return {**fields, "storm": asdict(one.fact) if isinstance(one.fact, Storm) else None}


def _seen(one: Evidence) -> dict[str, Any]:
    return {"kind": one.kind, "bdf": one.event.bdf if one.event else None, "times": times(one), "text": one.text}
