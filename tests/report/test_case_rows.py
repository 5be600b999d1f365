"""nvbandwidth's cases on the page: one table of those with one row, matrices of the others, and nothing else grows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dmaproof.cuda.cases import ALL, CASES, Case, plan
from dmaproof.report import case_rows
from dmaproof.report.html import render
from dmaproof.report.record import AnyLine, TestLine
from dmaproof.report.stream import read
from dmaproof.rig.model import HOST
from tests.report import records

RIG = records.hgx()
GPUS = tuple(RIG.node["host"].gpu)


def of_case(case: Case) -> Iterator[AnyLine]:
    test = f"suites/p2p/test_nvbandwidth.py::test_nvbandwidth[host-{case.name}]"
    beside = ("opposite_GBps", "sum_GBps") if case.square and case.both_ways else ()
    name = "latency_ns" if case.unit == "ns" else "bandwidth_GBps"
    for cell in plan(case, GPUS, lambda _one, _other: True):
        ends = [HOST if end is None else end if end == ALL else GPUS[end] for end in (cell.source, cell.target)]
        where = {"source": ends[0], "target": ends[1], "path": case.engine, "case": case.name}
        for one in (name, *beside):
            yield records.measured(test, one, case.unit, 100.0 + cell.column, **where)
    yield TestLine.model_validate({"id": test, "outcome": "passed", "duration_s": 1.0, "node": "host"})


def page(folder: Path, *, with_cases: bool) -> str:
    folder.mkdir()
    units = [records.opening(RIG), *([list(of_case(case)) for case in CASES] if with_cases else [])]
    return render(read(records.write(folder / "record.jsonl", units)))


def test_every_case_is_on_the_page_once_and_folded(tmp_path: Path) -> None:
    text = page(tmp_path / "run", with_cases=True)
    squares = [case.name for case in CASES if case.square]
    assert text.count("<figure") == len(squares) == 14
    for case in CASES:
        tag = f"<h3>{case.name}</h3>" if case.square else f'<th scope="row">{case.name}</th>'
        assert text.count(tag) == 1, case.name
    section = text.partition('id="cases"')[2].partition("</section>")[0]
    assert "<details open" not in section
    assert "opposite_GBps" not in text.partition('id="tests"')[0]


def test_a_row_of_latencies_is_best_where_it_is_lowest(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    path = records.write(tmp_path / "run/record.jsonl", [records.opening(RIG), *map(list, map(of_case, CASES))])
    (table,) = case_rows.tables(read(path), {"host": GPUS})
    assert table.ends == GPUS
    rows = {name: (unit, cells) for name, unit, cells in table.rows}
    unit, cells = rows["host_device_latency_sm"]
    assert unit == "ns"
    assert cells.split("<td")[1].startswith(" class=h9")
    assert cells.split("<td")[8].startswith(" class=h9"), "100 of 107 ns is more than nine tenths"
    assert len(rows) == 30


def test_a_run_without_cases_has_no_such_section(tmp_path: Path) -> None:
    assert 'id="cases"' not in page(tmp_path / "run", with_cases=False)
