"""Mode by suite: what passed and what failed on the host and in each guest, and what was never run.

"It was not run in that mode" is how regressions ship: a cell that nothing was run in is a result of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dmaproof.report.loaded import Record
from dmaproof.report.record import MeasurementLine, TestLine
from dmaproof.rig.model import Rig

State = Literal["pass", "fail", "not run"]
_SLOWER_BY = 0.4


@dataclass(frozen=True, slots=True)
class Cell:
    """A suite in a mode. What was skipped was not run."""

    suite: str
    mode: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def state(self) -> State:
        return "fail" if self.failed else "pass" if self.passed else "not run"


@dataclass(frozen=True, slots=True)
class Difference:
    """What a test says in ``mode`` and did not say in ``base``: another outcome, or another figure."""

    test: str
    base: str
    mode: str
    text: str


@dataclass(frozen=True, slots=True)
class Modes:
    """``rows`` are suites, each with a cell for every one of ``modes``; the first mode is what others are held to."""

    modes: tuple[str, ...]
    rows: Mapping[str, tuple[Cell, ...]]
    differences: tuple[Difference, ...]

    def cell(self, suite: str, mode: str) -> Cell:
        """The cell of ``suite`` in ``mode``; an empty one where the run knows neither."""
        return next((one for one in self.rows.get(suite, ()) if one.mode == mode), Cell(suite, mode))


def of_record(record: Record, rig: Rig) -> Modes:
    """The cells of ``record``'s run on ``rig``: every suite that has a test, in every node of the rig."""
    modes = tuple(node.name for node in rig.nodes)
    suites = sorted({test.suite for test in record.tests if test.suite and test.node})
    rows = {suite: tuple(_cell(record.tests, suite, mode) for mode in modes) for suite in suites}
    return Modes(modes, rows, tuple(_differences(record, modes)))


def _cell(tests: Sequence[TestLine], suite: str, mode: str) -> Cell:
    outcomes = [test.outcome for test in tests if (test.suite, test.node) == (suite, mode)]
    failed = sum(one in ("failed", "error") for one in outcomes)
    return Cell(suite, mode, outcomes.count("passed"), failed, outcomes.count("skipped"))


def _differences(record: Record, modes: Sequence[str]) -> Iterator[Difference]:
    """Tests are the same where their ids are, but for the node that stands in them."""
    base, *others = modes
    for mode in others:
        yield from _outcomes(record, base, mode)
        yield from _figures(record, base, mode)


def without_node(id_: str, node: str) -> str:
    """``test_x[host-edu0-edu1]`` on host: ``test_x[edu0-edu1]``."""
    return id_.replace(f"[{node}-", "[").replace(f"[{node}]", "")


def _outcomes(record: Record, base: str, mode: str) -> Iterator[Difference]:
    known = {without_node(test.id, base): test.outcome for test in record.tests if test.node == base}
    for test in record.tests:
        name = without_node(test.id, mode)
        if test.node == mode and test.outcome in ("failed", "error") and known.get(name) == "passed":
            yield Difference(name, base, mode, f"passes on {base}, fails in {mode}")


def _figures(record: Record, base: str, mode: str) -> Iterator[Difference]:
    known = {_figure(one, base): one.median for one in record.measurements if one.node == base}
    for one in record.measurements:
        before = known.get(_figure(one, mode)) if one.node == mode else None
        if not before or not one.median:
            continue
        ratio = one.median / before
        worse = ratio < 1 - _SLOWER_BY if one.unit.endswith("B/s") else ratio > 1 / (1 - _SLOWER_BY)
        if worse:
            text = f"{one.name}: {one.median:.4g} {one.unit} in {mode}, {before:.4g} on {base}"
            yield Difference(without_node(one.test, mode), base, mode, text)


def _figure(one: MeasurementLine, node: str) -> tuple[object, ...]:
    return (without_node(one.test, node), one.name, one.source, one.target, one.path, one.peer, one.direction)
