"""nvbandwidth's cases of one row, as one table a node: a row a case, a column a GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from dmaproof.cuda.cases import BY_NAME, CASES, Case, cell_of
from dmaproof.report.heat import figure
from dmaproof.report.loaded import Record
from dmaproof.report.matrix import Scale
from dmaproof.report.record import MeasurementLine
from dmaproof.report.text import counted


@dataclass(frozen=True, slots=True)
class CaseRows:
    """``rows``: the case, the unit of its figures, its cells as HTML. Shades are shares of the row's best figure."""

    node: str
    ends: tuple[str, ...]
    rows: tuple[tuple[str, str, Markup], ...]


def holds(line: MeasurementLine) -> bool:
    """Whether ``line`` is a figure of such a case."""
    return line.case in BY_NAME and not BY_NAME[line.case].square


def tables(record: Record, gpus: Mapping[str, Sequence[str]]) -> list[CaseRows]:
    """A table for each node that has such figures. ``gpus`` are each node's GPU names in order."""
    found: dict[str, dict[Case, dict[str, MeasurementLine]]] = {}
    for line in record.measurements:
        if line.case is not None and holds(line):
            case = BY_NAME[line.case]
            _, column = cell_of(case, str(line.source), str(line.target))
            found.setdefault(line.node, {}).setdefault(case, {})[column] = line
    return [_table(node, cases, gpus.get(node, ())) for node, cases in found.items()]


def _table(node: str, cases: Mapping[Case, Mapping[str, MeasurementLine]], gpus: Sequence[str]) -> CaseRows:
    ends = tuple(dict.fromkeys([*gpus, *(end for cells in cases.values() for end in cells)]))
    rows = ((case.name, case.unit, _cells(case, cases[case], ends)) for case in CASES if case in cases)
    return CaseRows(node, ends, tuple(rows))


def _cells(case: Case, lines: Mapping[str, MeasurementLine], ends: Sequence[str]) -> Markup:
    scale = Scale.of((line.median for line in lines.values()), lower_is_better=case.unit == "ns")
    return Markup("").join(_cell(lines.get(end), scale) for end in ends)


def _cell(line: MeasurementLine | None, scale: Scale) -> Markup:
    if line is None:
        return Markup('<td class=x title="no figure">?')
    tip = f"{line.name}, spread {figure(line.spread)} {line.unit}, {counted(line.count, 'sample')}"
    return Markup('<td class=h{} title="{}">{}').format(scale.level(line.median), tip, figure(line.median))
