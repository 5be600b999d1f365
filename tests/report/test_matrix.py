"""Matrices: every pair has its figure or the reason why it has none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmaproof.report.matrix import Cell, Matrix, matrices
from dmaproof.report.record import AnyLine
from dmaproof.report.stream import read
from tests.report import records

RIG = records.hgx()
GPUS = {"host": tuple(RIG.node["host"].gpu)}


def of(tmp_path: Path, units: list[list[AnyLine]]) -> list[Matrix]:
    return matrices(read(records.write(tmp_path / "r", units)), GPUS)


def cells(matrix: Matrix) -> dict[tuple[str, str], Cell]:
    return {(cell.source, cell.target): cell for cell in matrix.cells}


def test_each_method_and_setting_is_a_matrix(tmp_path: Path) -> None:
    found = of(tmp_path, records.healthy(RIG))
    settings = [(one.key.name, one.key.path, one.key.direction, one.key.peer) for one in found]
    assert settings == [
        ("bandwidth_GBps", "ce", "one", True),
        ("bandwidth_GBps", "sm", "one", True),
        ("bandwidth_GBps", "ce", "both", True),
        ("bandwidth_GBps", "ce", "one", False),
        ("latency_ns", "sm", "one", True),
    ]
    assert all(len(one.cells) == 56 and all(cell.line for cell in one.cells) for one in found)


def test_rows_are_sources(tmp_path: Path) -> None:
    matrix = of(tmp_path, [records.opening(RIG), records.bandwidth(RIG, "gpu2", "gpu5", "ce", 100.0)])[0]
    cell = matrix.rows[2][5]
    assert cell is not None
    assert cell.line is not None
    assert matrix.rows[5][2] is not None
    assert matrix.rows[5][2].line is None
    assert matrix.rows[2][2] is None


def test_an_empty_cell_says_why(tmp_path: Path) -> None:
    bandwidth = cells(of(tmp_path, records.failing(RIG))[0])
    assert bandwidth["gpu6", "gpu0"].why == "failed"
    assert bandwidth["gpu0", "gpu7"].why == "skipped"
    assert bandwidth["gpu7", "gpu0"].why == "not run"
    assert bandwidth["gpu6", "gpu0"].test.endswith("[host-gpu6-gpu0-ce-on-one]")


def test_a_pass_without_a_figure_is_no_figure(tmp_path: Path) -> None:
    full, empty = (records.bandwidth(RIG, "gpu0", target, "ce", 100.0) for target in ("gpu1", "gpu2"))
    found = cells(of(tmp_path, [records.opening(RIG), full, empty[1:]])[0])
    assert found["gpu0", "gpu2"].why == "no figure"


def test_gpu1_is_not_a_part_of_gpu10(tmp_path: Path) -> None:
    rig = records.wide(12)
    units = [records.opening(rig), records.bandwidth(rig, "gpu1", "gpu10", "ce", 100.0)]
    units.append([records.passed(units[1][-1].id.replace("gpu1-gpu10", "gpu10-gpu1"), rig, outcome="failed")])  # type: ignore[union-attr]
    assert cells(of(tmp_path, units)[0])["gpu10", "gpu1"].why == "failed"


def test_only_whole_names_are_ends_of_a_pair(tmp_path: Path) -> None:
    units = [records.opening(RIG)]
    for source, target in (("gpu1", "gpu2"), ("gpu3", "gpu4")):
        line = records.bandwidth(RIG, source, target, "ce", 100.0)[0]
        units.append([line.model_copy(update={"test": f"t.py::t[vgpu1-gpu10-{source}-{target}]"})])
    assert [len(one.ranked) for one in of(tmp_path, units)] == [2]


@pytest.mark.parametrize(("weak", "odd"), [(211.0, True), (350.0, True), (370.0, False)])
def test_a_weak_pair_stands_out(tmp_path: Path, weak: float, odd: bool) -> None:
    units = [records.opening(RIG)]
    units += [
        records.bandwidth(RIG, *pair, "ce", weak if pair == ("gpu3", "gpu4") else 396.8) for pair in records.pairs(RIG)
    ]
    matrix = of(tmp_path, units)[0]
    assert [pair for pair, cell in cells(matrix).items() if cell.odd] == ([("gpu3", "gpu4")] if odd else [])
    assert matrix.ranked[0].source == "gpu3"


def test_of_latencies_the_highest_is_worst(tmp_path: Path) -> None:
    latency = next(one for one in of(tmp_path, records.failing(RIG)) if one.key.name == "latency_ns")
    found = cells(latency)
    assert (latency.ranked[0].source, latency.ranked[0].target) == ("gpu0", "gpu1")
    assert found["gpu0", "gpu1"].odd
    assert found["gpu0", "gpu1"].level < found["gpu1", "gpu0"].level


@given(figures=st.lists(st.floats(), min_size=1, max_size=7))
def test_any_figures_make_levels(figures: list[float], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "levels"
    path.unlink(missing_ok=True)
    names = list(GPUS["host"])[1:]
    units = [records.bandwidth(RIG, "gpu0", name, "ce", figure) for name, figure in zip(names, figures, strict=False)]
    records.write(path, [records.opening(RIG), *units])
    levels = [cell.level for cell in matrices(read(path), GPUS)[0].cells if cell.line]
    assert len(levels) == len(figures)
    assert all(0 <= level <= 9 for level in levels)


def test_both_directions_of_one_test_share_a_matrix(tmp_path: Path) -> None:
    units = [records.opening(RIG)]
    for source, target in (("gpu0", "gpu1"), ("gpu0", "gpu2")):
        unit = records.bandwidth(RIG, source, target, "ce", 100.0, direction="both")
        (there,) = [line for line in unit if line.kind == "measurement"]
        units.append([there.model_copy(update={"source": target, "target": source, "median": 90.0}), *unit])
    failed = records.bandwidth(RIG, "gpu3", "gpu4", "ce", 1.0, direction="both")
    units.append([line.model_copy(update={"outcome": "failed"}) for line in failed if line.kind == "test"])
    (matrix,) = of(tmp_path, units)
    found = cells(matrix)
    assert [round(found[pair].line.median) for pair in (("gpu0", "gpu1"), ("gpu2", "gpu0"))] == [100, 90]  # type: ignore[union-attr]
    assert [found[pair].why for pair in (("gpu3", "gpu4"), ("gpu4", "gpu3"), ("gpu5", "gpu6"))] == [
        "failed",
        "failed",
        "not run",
    ]
