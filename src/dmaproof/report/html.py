"""The HTML report: one self-contained file that explains a run to someone who was not there.

No network, no fonts, no files beside it: it is mailed to vendors. Text of logs is data: autoescaped, its control
characters written out, and the page's own policy lets nothing run but the one script it came with.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dmaproof.report import case_rows, findings, heat, judged, matrix, modes, notes, text
from dmaproof.report.files import write_atomically
from dmaproof.report.loaded import Record
from dmaproof.report.record import DeviceLine, JudgementLine, MeasurementLine, TestLine
from dmaproof.rig.load import dump
from dmaproof.rig.model import Rig

ROWS = 1500
"""Rows of a table: a browser still scrolls and filters these at once. What matters most comes first."""
_LIMITS = {"NAMES": 200, "FINDINGS": 21, "SUMMARIES": 6, "LINES": 60, "TEXT": 4000, "EVIDENCE": 1500}
_LONG_MESSAGES = 100  # tests whose message is given at length
_ORDER = ("failed", "error", "skipped", "passed")


def write_html(record: Record, path: Path) -> None:
    """Write the report of ``record`` to ``path``, whole or not at all; raises ReportError."""
    write_atomically(path, render(record))


def render(record: Record) -> str:
    """The report of ``record`` as the text of one HTML file."""
    rig = findings.declared(record)
    causes = findings.causes(record)
    tests = sorted(record.tests, key=lambda test: _ORDER.index(test.outcome))
    gpus = {name: tuple(node.gpu) for name, node in rig.node.items()} if rig else {}
    found = matrix.matrices(record, gpus)
    heats = _heats(record, rig, [one for one in found if not one.is_sample], _anchors(causes, tests))
    other = _other(record, found)
    devices = findings.devices(record)
    judgements, as_peers = _parted(judged.of_record(record))
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            _header(record),
            **_LIMITS,
            modes=modes.of_record(record, rig) if rig is not None and len(rig.nodes) > 1 else None,
            causes=causes,
            refused=findings.refused(record),
            unjudged=[test.id for test in findings.unjudged(record)],
            matrices=[one for one in heats if not one.of_case],
            case_matrices=[one for one in heats if one.of_case],
            case_rows=case_rows.tables(record, gpus),
            figures=heat.groups(other[:ROWS]),
            figures_left=max(0, len(other) - ROWS),
            judgements=judgements[:ROWS],
            judgements_left=max(0, len(judgements) - ROWS),
            as_peers=as_peers[:ROWS],
            devices=[(_name(rig, device), device, number) for device, number in devices[:ROWS]],
            devices_left=max(0, len(devices) - ROWS),
            skips=findings.skips(record),
            blind_spots=notes.blind_spots(record),
            tests=[(test, _message(test, at)) for at, test in enumerate(tests[:ROWS])],
            tests_left=max(0, len(tests) - ROWS),
            rig=rig,
            rig_notes=notes.rig_notes(record),
            declared=dump(rig) if rig else json.dumps(record.rig.declared, indent=1) if record.rig else "",
        )
    )


def _header(record: Record) -> dict[str, Any]:
    start, end = notes.moment(record.start.time), notes.moment(record.end.time) if record.end else None
    when = f"{start:%Y-%m-%d %H:%M:%S} UTC" if start else record.start.time
    return {
        "record": record,
        "counts": findings.counts(record),
        "lasted": notes.lasted(record),
        "when": f"{when} to {end:%H:%M:%S}" if start and end and end.date() == start.date() else when,
        "command": shlex.join(record.start.command),
        "notes": notes.notes(record),
        "interrupted": notes.interrupted(record),
        "cut": notes.cut_short(record),
        "unmet": notes.unmet(record),
        "css": _asset("report.css"),
        "js": _asset("report.js"),
    }


def _heats(
    record: Record, rig: Rig | None, found: Sequence[matrix.Matrix], anchors: Mapping[str, str]
) -> list[heat.Heat]:
    by_id = {test.id: test for test in record.tests}
    return [heat.heat(one, by_id, anchors, rig) for one in found]


def _other(record: Record, found: Sequence[matrix.Matrix]) -> list[MeasurementLine]:
    """What is in no matrix that is drawn: figures of other ends, and of a few pairs alone."""
    few = {id(cell.line) for one in found if one.is_sample for cell in one.cells}
    return [
        line for line in record.measurements if id(line) in few or not (matrix.is_peer(line) or case_rows.holds(line))
    ]


def _parted(judgements: Sequence[JudgementLine]) -> tuple[list[JudgementLine], list[JudgementLine]]:
    """What a reader is to see, and what is fine."""
    return (
        [one for one in judgements if one.standing != "fine"],
        [one for one in judgements if one.standing == "fine"],
    )


def _anchors(causes: Sequence[findings.Cause], tests: Sequence[TestLine]) -> dict[str, str]:
    """Test id to the element that explains it: the row of a failed test, or better the cause of its failure."""
    rows = {test.id: f"t{at}" for at, test in enumerate(tests[:ROWS], 1) if test.outcome in ("failed", "error")}
    return rows | {test: f"v{at}" for at, cause in enumerate(causes, 1) for test in cause.tests}


def _message(test: TestLine, at: int) -> str:
    """What the tests table says of ``test``, its ``at``-th: a few thousand long messages would drown it."""
    if test.outcome == "passed":
        return ""
    return text.clipped(test.message, _LIMITS["TEXT"] if at < _LONG_MESSAGES else 160)


def _name(rig: Rig | None, device: DeviceLine) -> str:
    gpus = [gpu for node in rig.node.values() for gpu in node.gpus] if rig else []
    return next((gpu.name for gpu in gpus if gpu.bdf == device.bdf), "")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("dmaproof.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: text.printable(value) if type(value) is str else value,
    )
    environment.filters |= {
        "clip": text.clipped,
        "counted": text.counted,
        "digest": _digest,
        "duration": text.duration,
        "figure": heat.figure,
        "short": heat.short,
    }
    return environment


@cache
def _asset(name: str) -> Markup:
    """A file of ours that goes into the page as it is."""
    environment = _environment()
    source, _, _ = PackageLoader("dmaproof.report").get_source(environment, name)
    return Markup(source)  # noqa: S704 - a file of this package, and nothing else


def _digest(source: str) -> str:
    """The hash by which a Content-Security-Policy names an inline script or style (CSP level 3, hash-source)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
