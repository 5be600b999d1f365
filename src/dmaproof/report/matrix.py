"""Figures between GPUs as matrices: one for each test, method and setting; each empty cell knows why it is empty."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dmaproof.cuda.cases import ALL
from dmaproof.report.loaded import Record
from dmaproof.report.record import MeasurementLine, TestLine
from dmaproof.rig.model import HOST

_LEVELS = 10
ODD = 0.10
"""A figure this much worse than the median of its matrix is marked: 10 %, well above the spread of a healthy rig."""
_TIMES = frozenset({"ns", "us", "µs", "ms", "s"})
_BESIDE = frozenset({"opposite_GBps", "sum_GBps"})
"""Taken with the figure that is shown: the record has them."""
_NOT_RUN = "not run"
_SOURCE, _TARGET = "\0source\0", "\0target\0"


@dataclass(frozen=True, slots=True)
class Key:
    """What makes figures comparable. ``template`` is the test id with the ends of the pair left out."""

    template: str
    node: str
    name: str
    unit: str
    path: str | None
    peer: bool | None
    direction: str | None
    method: str
    case: str | None = None

    @property
    def lower_is_better(self) -> bool:
        return self.unit in _TIMES


@dataclass(frozen=True, slots=True)
class Cell:
    """One directed pair. ``line`` is its figure; without one, ``why`` is failed, error, skipped, no figure or not run.

    ``level`` 0..9 is the share of the best figure of the matrix in tenths; ``odd`` marks one far below the median.
    """

    source: str
    target: str
    test: str
    line: MeasurementLine | None = None
    level: int = 0
    odd: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class Matrix:
    """``rows`` has a row for each source and a cell for each target; None where source and target are one."""

    key: Key
    ends: tuple[str, ...]
    rows: tuple[tuple[Cell | None, ...], ...]

    @property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(cell for row in self.rows for cell in row if cell is not None)

    @property
    def is_sample(self) -> bool:
        """Whether it has fewer pairs than ends: of a test that takes a pair of each class of path, say."""
        return sum(cell.line is not None or cell.why != _NOT_RUN for cell in self.cells) < len(self.ends)

    @property
    def ranked(self) -> list[MeasurementLine]:
        """The finite figures, worst first."""
        lines = [cell.line for cell in self.cells if cell.line is not None and math.isfinite(cell.line.median)]
        return sorted(lines, key=lambda line: line.median, reverse=self.key.lower_is_better)


def is_peer(line: MeasurementLine) -> bool:
    """Whether ``line`` is a figure between two GPUs."""
    ends = (line.source, line.target)
    return line.source != line.target and not {None, HOST, ALL} & set(ends)


def matrices(record: Record, gpus: Mapping[str, Sequence[str]]) -> list[Matrix]:
    """The matrices of ``record``. ``gpus`` are each node's GPU names in order, so that missing rows are seen too."""
    groups: dict[Key, list[MeasurementLine]] = {}
    for line in record.measurements:
        if is_peer(line) and line.name not in _BESIDE:
            groups.setdefault(_key(line), []).append(line)
    tests = {test.id: test for test in record.tests}
    keys = sorted(
        groups, key=lambda key: (key.node, key.name, key.peer is False, key.direction == "both", key.path or "")
    )
    return [_matrix(key, groups[key], gpus.get(key.node, ()), tests) for key in keys]


def _key(line: MeasurementLine) -> Key:
    """A test of both directions at once measures two figures under one id: both belong to one matrix."""
    template = _swap(line.test, {str(line.source): _SOURCE, str(line.target): _TARGET})
    if line.direction == "both":
        template = min(template, _mirrored(template))
    return Key(template, line.node, line.name, line.unit, line.path, line.peer, line.direction, line.method, line.case)


def _mirrored(template: str) -> str:
    return _swap(template, {_SOURCE: _TARGET, _TARGET: _SOURCE})


def _swap(test: str, words: Mapping[str, str]) -> str:
    """The test id with whole ``words`` of its parameters replaced."""
    head, bracket, parameters = test.partition("[")
    either = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    swapped = re.sub(rf"(?<![A-Za-z0-9])(?:{either})(?![A-Za-z0-9])", lambda match: words[match[0]], parameters)
    return head + bracket + swapped


def _matrix(key: Key, lines: Sequence[MeasurementLine], gpus: Sequence[str], tests: Mapping[str, TestLine]) -> Matrix:
    by_pair = {(str(line.source), str(line.target)): line for line in lines}
    ends = tuple(dict.fromkeys([*gpus, *(end for pair in by_pair for end in pair)]))
    scale = Scale.of((line.median for line in lines), key.lower_is_better)
    rows = [
        tuple(None if one == other else _cell(key, one, other, by_pair, tests, scale) for other in ends) for one in ends
    ]
    return Matrix(key, ends, tuple(rows))


@dataclass(frozen=True, slots=True)
class Scale:
    """What figures that stand together are shaded and marked by."""

    best: float
    median: float
    lower_is_better: bool

    @classmethod
    def of(cls, figures: Iterable[float], lower_is_better: bool) -> Scale:
        usable = [one for one in figures if math.isfinite(one) and one > 0]
        if not usable:
            return cls(1.0, 1.0, lower_is_better)
        best = min(usable) if lower_is_better else max(usable)
        return cls(best, statistics.median(usable), lower_is_better)

    def level(self, figure: float) -> int:
        """Its share of the best figure in tenths, 0 to 9."""
        return min(_LEVELS - 1, int(self._share(figure, self.best) * _LEVELS))

    def is_odd(self, figure: float) -> bool:
        """Whether it is far below the median."""
        return self._share(figure, self.median) < 1 - ODD

    def _share(self, figure: float, of: float) -> float:
        """``figure`` as a share of ``of``, 1 as good and less if worse, whichever way is better."""
        if not math.isfinite(figure) or figure <= 0:
            return 0.0
        return of / figure if self.lower_is_better else figure / of


def _cell(
    key: Key,
    source: str,
    target: str,
    by_pair: Mapping[tuple[str, str], MeasurementLine],
    tests: Mapping[str, TestLine],
    scale: Scale,
) -> Cell:
    line = by_pair.get((source, target))
    if line is None:
        ids = [one.replace(_SOURCE, source).replace(_TARGET, target) for one in _templates(key)]
        test = next((one for one in ids if one in tests), ids[0])
        return Cell(source, target, test, why=_why(tests.get(test)))
    return Cell(source, target, line.test, line, scale.level(line.median), scale.is_odd(line.median))


def _templates(key: Key) -> tuple[str, ...]:
    """The ids that a figure of ``key`` may have: a test of both directions is called by either order of its ends."""
    return (key.template, _mirrored(key.template)) if key.direction == "both" else (key.template,)


def _why(test: TestLine | None) -> str:
    if test is None:
        return _NOT_RUN
    return "no figure" if test.outcome == "passed" else test.outcome
