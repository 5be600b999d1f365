"""A matrix as a reader sees it: titles in words, figures in as many digits as help, table rows as HTML."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from dmaproof.report.junit import with_unit
from dmaproof.report.matrix import Cell, Key, Matrix
from dmaproof.report.record import MeasurementLine, TestLine
from dmaproof.report.text import clipped, counted, printable
from dmaproof.rig.model import Rig

DENSE = 16
"""From more ends than this on, cells are small and say no more than their figure: 72 x 72 of them must stay usable."""
_MARKS = {"failed": ("F", "x f"), "error": ("E", "x f"), "skipped": ("S", "x s"), "no figure": ("?", "x")}
_NOT_RUN = ("·", "x")
_PATHS = {"ce": "copy engine", "sm": "kernel"}
_HEAD = 20
_DIRECTIONS = {"one": "one way", "both": "both ways at once"}


@dataclass(frozen=True, slots=True)
class Heat:
    """What the template shows of a matrix; ``rows`` are (source, the row's cells as HTML)."""

    title: str
    unit: str
    lower: bool
    range: str
    how: str
    dense: bool
    ends: tuple[str, ...]
    rows: tuple[tuple[str, Markup], ...]
    missing: str
    of_case: bool = False


def heat(matrix: Matrix, tests: Mapping[str, TestLine], anchors: Mapping[str, str], rig: Rig | None) -> Heat:
    """``anchors`` are the ids of the elements that explain a test."""
    key, dense = matrix.key, len(matrix.ends) > DENSE
    digits = _digits(matrix, dense)
    rows = (Markup("").join(_cell(cell, digits, dense, tests, anchors) for cell in row) for row in matrix.rows)
    return Heat(
        title=key.case or title(key.name, key.unit, key.path, key.direction, key.peer),
        unit=key.unit,
        lower=key.lower_is_better,
        range=_range(matrix, rig),
        how=_how(key),
        dense=dense,
        ends=matrix.ends,
        rows=tuple(zip(matrix.ends, rows, strict=True)),
        missing=_missing(matrix, tests),
        of_case=key.case is not None,
    )


def title(name: str, unit: str, path: str | None, direction: str | None, peer: bool | None) -> str:
    """``Bandwidth: copy engine, one way, peer access on``."""
    unit_word = with_unit("", unit)
    words = name.removesuffix(unit_word).replace("_", " ").strip() if unit_word else name.replace("_", " ")
    access = {True: "peer access on", False: "peer access off", None: ""}[peer]
    how = [_PATHS.get(path or "", path or ""), _DIRECTIONS.get(direction or "", ""), access]
    told = ", ".join(one for one in how if one)
    return f"{words[:1].upper()}{words[1:]}{': ' if told else ''}{told}"


def _how(key: Key) -> str:
    function = key.template.partition("[")[0].rpartition("::")[2]
    return ", ".join(part for part in (f"{function} on {key.node}", key.method) if part)


def _digits(matrix: Matrix, dense: bool) -> int:
    largest = max((abs(line.median) for line in matrix.ranked), default=0.0)
    decimals = 0 if largest >= 1000 else 1 if largest >= 100 else 2
    return max(0, decimals - dense)


def _cell(
    cell: Cell | None, digits: int, dense: bool, tests: Mapping[str, TestLine], anchors: Mapping[str, str]
) -> Markup:
    """One ``td``; its end tag and quotes are left out where HTML lets them be: there may be 72 x 72 in each table."""
    if cell is None:
        return Markup("<td>")
    if cell.line is not None:
        shown = f"{cell.line.median:.{digits}f}" if math.isfinite(cell.line.median) else str(cell.line.median)
        kind = Markup('"h{} odd"').format(cell.level) if cell.odd else Markup("h{}").format(cell.level)
        return Markup("<td class={}{}>{}").format(kind, Markup("") if dense else _tip(_said(cell.line)), shown)
    mark, kind_words = _MARKS.get(cell.why, _NOT_RUN)
    anchor = anchors.get(cell.test)
    inside = Markup('<a href="#{}">{}</a>').format(anchor, mark) if anchor else escape(mark)
    test = tests.get(cell.test)
    why = (
        f"{cell.source} → {cell.target}: {cell.why}{f', {clipped(test.message, 200)}' if test and test.message else ''}"
    )
    return Markup('<td class="{}"{}>{}').format(kind_words, Markup("") if dense else _tip(why), inside)


def _tip(text: str) -> Markup:
    return Markup(' title="{}"').format(printable(text))


def _said(line: MeasurementLine) -> str:
    figures = f"median {figure(line.median)}, spread {figure(line.spread) if line.count > 1 else '–'} {line.unit}"
    return f"{line.source} → {line.target}: {figures}, {counted(line.count, 'sample')}"


def _range(matrix: Matrix, rig: Rig | None) -> str:
    ranked = matrix.ranked
    if not ranked:
        return ""
    worst, middle, best = ranked[0], ranked[len(ranked) // 2], ranked[-1]
    told = f"worst {figure(worst.median)} ({worst.source} → {worst.target}), median {figure(middle.median)}, best "
    return f"{told}{figure(best.median)}{_declared(matrix, rig)}"


def _declared(matrix: Matrix, rig: Rig | None) -> str:
    """What the rig claims of these pairs: rates are per direction and with peer access, so of such matrices only."""
    key = matrix.key
    node = rig.node.get(key.node) if rig else None
    if node is None or key.peer is False or key.direction == "both" or key.name not in ("bandwidth_GBps", "latency_ns"):
        return ""
    paths = [node.path_between(cell.source, cell.target) for cell in matrix.cells]
    claims = {getattr(path, key.name) for path in paths if path is not None} - {None}
    return f"; the rig declares {figure(claims.pop())}" if len(claims) == 1 else ""


def _missing(matrix: Matrix, tests: Mapping[str, TestLine]) -> str:
    """How many pairs have no figure, and why."""
    empty = [cell for cell in matrix.cells if cell.line is None]
    if not empty:
        return ""
    why = ", ".join(f"{number} {reason}" for reason, number in Counter(cell.why for cell in empty).most_common())
    skipped = [tests[cell.test].message for cell in empty if cell.why == "skipped" and cell.test in tests]
    reasons = Counter(message for message in skipped if message).most_common(1)
    most = f" (skipped mostly because: {clipped(reasons[0][0], 200)})" if reasons else ""
    return f"{counted(len(empty), 'pair')} without a figure: {why}{most}"


def figure(value: float) -> str:
    """``value`` in about four digits, never with an exponent where a person would not write one."""
    if not math.isfinite(value) or (value and not 1e-4 <= abs(value) < 1e12):
        return f"{value:.3g}"
    size = abs(value)
    return f"{value:,.0f}" if size >= 1000 else f"{value:.1f}" if size >= 100 else f"{value:.3g}"


def short(end: str, dense: bool) -> str:
    """``end`` as the head of a row or column: ``7`` for ``gpu7`` where cells are small; always short."""
    number = end.removeprefix("gpu")
    if dense and number.isdigit():
        return number
    return end if len(end) <= _HEAD else f"{end[: _HEAD - 1]}…"


@dataclass(frozen=True, slots=True)
class Group:
    """Figures of one test function and method that are not between GPUs."""

    title: str
    how: str
    lines: Sequence[MeasurementLine]


def groups(lines: Sequence[MeasurementLine]) -> list[Group]:
    """``lines`` by test function and setting, in their order."""
    found: dict[tuple[str, str], list[MeasurementLine]] = {}
    for line in lines:
        function = line.test.partition("[")[0].rpartition("::")[2]
        method = line.method if line.nbytes is None else line.method.replace(f"{line.nbytes} bytes", "so many bytes")
        how = ", ".join(part for part in (f"{function} on {line.node}", method) if part)
        found.setdefault((title(line.name, line.unit, line.path, line.direction, line.peer), how), []).append(line)
    return [Group(words, how, members) for (words, how), members in found.items()]
