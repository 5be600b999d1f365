"""nvbandwidth's JSON from a record: what its readers know where to find (NVIDIA/nvbandwidth json_output.cpp, v0.8).

``{"nvbandwidth": {"version", "git_version", "Driver Version", "GPU Device list", "testcases": [{"name", "status",
"bandwidth_description", "bandwidth_matrix": [["397.1", "N/A"]], "sum"}]}}``; figures are strings of six digits, as a
C++ stream prints them. docs/nvbandwidth.md says what is more here (reasons, errors) and what is not.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dmaproof.cuda.cases import BY_NAME, Case, cell_of
from dmaproof.errors import UsageError
from dmaproof.report import findings, notes
from dmaproof.report.files import write_atomically
from dmaproof.report.loaded import Record, TestRecord
from dmaproof.report.record import MeasurementLine
from dmaproof.report.text import printable
from dmaproof.rig.model import Node, Rig

_TEST = re.compile(r"::test_nvbandwidth\[(?P<node>.+)-(?P<case>[a-z0-9_]+)\]$")
_STATUS = {"passed": "Passed", "skipped": "Waived", "failed": "Error", "error": "Error"}
_BOTH = ("bandwidth_GBps", "opposite_GBps", "sum_GBps")
"""A bidirectional case has a matrix of each, and the JSON their rows one after the other."""


def checked(path: Path) -> Path:
    """``path`` if a file can be made there; raises UsageError before a run of hours ends without it."""
    if path.is_dir():
        raise UsageError(f"--nvbandwidth-json={path} is a folder: name a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"--nvbandwidth-json={path}: there is no folder {path.parent}")
    beside = path.with_name(f".{path.name[:80]}.probe")
    try:
        beside.touch()
        beside.unlink()
    except OSError as error:
        raise UsageError(f"--nvbandwidth-json={path}: cannot write there: {error.strerror}") from None
    return path


def write_json(record: Record, path: Path) -> None:
    """Write the cases of ``record`` to ``path``, whole or not at all; raises ReportError."""
    write_atomically(path, json.dumps(document(record), indent=3) + "\n")


def document(record: Record) -> dict[str, Any]:
    """The cases that ``record`` holds, in the order in which they ran."""
    rig = findings.declared(record)
    cases = [(one, *found) for one in record.by_test.values() if (found := _case(one, rig)) is not None]
    nodes = list(dict.fromkeys(node.name for _, node, _ in cases))
    told: dict[str, Any] = {"version": f"dmaproof {record.start.dmaproof}", "git_version": "unknown"}
    if record.start.driver is not None:
        told["Driver Version"] = record.start.driver
    told["GPU Device list"] = list(_devices(rig, nodes)) if rig is not None else []
    told |= {key: text for key, text in (("warning", _warning(record)), ("error", _cut(record))) if text}
    told["testcases"] = [
        {**({"node": node.name} if len(nodes) > 1 else {}), **_testcase(one, node, case, _cut(record))}
        for one, node, case in cases
    ]
    return {"nvbandwidth": told}


def _warning(record: Record) -> str:
    kind = record.start.rig_kind
    return f"{kind} rig: {notes.PROVES[kind]}" if kind in notes.PROVES else ""


def _cut(record: Record) -> str:
    return notes.interrupted(record) or notes.cut_short(record) or ""


def _case(one: TestRecord, rig: Rig | None) -> tuple[Node, Case] | None:
    match = _TEST.search(one.id)
    if match is None or rig is None or match["case"] not in BY_NAME or match["node"] not in rig.node:
        return None
    return rig.node[match["node"]], BY_NAME[match["case"]]


def _devices(rig: Rig, nodes: Sequence[str]) -> Iterator[str]:
    """``0: NVIDIA H100 80GB HBM3 (00000000:1b:00): (host)``, as getDeviceDisplayInfo writes them."""
    for name in nodes:
        for number, gpu in enumerate(rig.node[name].gpus):
            domain, bus, device = gpu.bdf.partition(".")[0].split(":")
            yield f"{number}: {gpu.product or 'GPU'} ({int(domain, 16):08x}:{bus}:{device}): ({name})"


def _testcase(one: TestRecord, node: Node, case: Case, cut: str) -> dict[str, Any]:
    status = _STATUS[one.test.outcome] if one.test is not None else "Error"
    told: dict[str, Any] = {"name": case.name, "status": status}
    message = printable(one.test.message) if one.test is not None else cut or "the test did not come to its end"
    if status != "Passed":
        told["reason" if status == "Waived" else "error"] = message
    if one.measurements:
        names = _BOTH if case.both_ways and case.square else (one.measurements[0].name,)
        matrices = [_matrix(case, node, [line for line in one.measurements if line.name == name]) for name in names]
        told["bandwidth_description"] = description(case)
        told["bandwidth_matrix"] = [[_figure(value) for value in row] for matrix in matrices for row in matrix]
        told["sum"] = math.fsum(value for row in matrices[-1] for value in row if value is not None)
    return told


def _matrix(case: Case, node: Node, lines: Sequence[MeasurementLine]) -> list[list[float | None]]:
    gpus = [gpu.name for gpu in node.gpus]
    found: Mapping[tuple[str | None, str], float] = {
        cell_of(case, str(line.source), str(line.target)): line.median for line in lines if math.isfinite(line.median)
    }
    rows: Sequence[str | None] = gpus if case.square else [None]
    return [[found.get((row, column)) for column in gpus] for row in rows]


def _figure(value: float | None) -> str:
    return "N/A" if value is None else f"{value:.6g}"


def description(case: Case) -> str:
    """What a matrix shows, in nvbandwidth's words: scripts look for them. Its arrow between GPUs points from who has
    started the copy: reads and writes have the arrow that one would expect of the other."""
    engine = case.engine.upper()
    if case.kind == "local":
        return f"{'memcpy' if case.work == 'copy' else case.work} local GPU(column) bandwidth (GB/s)"
    if case.kind == "host_latency":
        return f"memory latency {engine} CPU(row) <-> GPU(column) (ns)"
    if case.kind == "pair_latency":
        return f"Device to Device Latency {engine} GPU(row) <-> GPU(column) (ns)"
    row = "CPU" if case.kind == "host" else "GPU"
    total = "Total " if case.both_ways and case.square else ""
    return f"memcpy {engine} {row}(row) {_arrow(case)} GPU(column) {total}bandwidth (GB/s)"


def _arrow(case: Case) -> str:
    if case.both_ways:
        return "<->"
    if case.kind == "host":
        return "->" if case.way == "h2d" else "<-"
    if case.kind == "one_to_all":
        return "->" if case.initiator == "source" else "<-"
    return "<-" if case.initiator == "source" else "->"
