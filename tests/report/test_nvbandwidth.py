"""nvbandwidth's JSON: made from records alone, in the shape that its own readers know."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dmaproof.cuda.cases import ALL, BY_NAME, CASES, Cell, cell_of, plan
from dmaproof.errors import UsageError
from dmaproof.report import nvbandwidth
from dmaproof.report.record import AnyLine, MeasurementLine, RigLine, TestLine
from dmaproof.report.stream import read
from dmaproof.rig.load import load
from dmaproof.rig.model import HOST
from tests.report import records

RIG = load("virtual:pcie-pair")
GPUS = tuple(RIG.node["host"].gpu)


def id_of(case: str, node: str = "host") -> str:
    return f"suites/p2p/test_nvbandwidth.py::test_nvbandwidth[{node}-{case}]"


def names(cell: Cell) -> tuple[str, str]:
    source, target = (HOST if end is None else end if end == ALL else GPUS[end] for end in (cell.source, cell.target))
    return source, target


def figure(case: str, source: str, target: str, median: float, name: str = "bandwidth_GBps") -> MeasurementLine:
    return records.measured(id_of(case), name, "GB/s", median, source=source, target=target, case=case)


def ended(case: str, outcome: str = "passed", message: str = "") -> TestLine:
    told = {"id": id_of(case), "outcome": outcome, "duration_s": 0.1, "message": message, "node": "host"}
    return TestLine.model_validate(told)


def document(folder: Path, lines: Sequence[AnyLine], whole: bool = True) -> dict[str, Any]:
    rig = RigLine(declared=RIG.model_dump(mode="json", exclude_none=True))
    units: list[Sequence[AnyLine]] = [[records.start(RIG), rig], lines, [records.end(RIG)] if whole else []]
    path = records.write(folder / "record.jsonl", units)
    nvbandwidth.write_json(read(path), folder / "out.json")
    told: dict[str, Any] = json.loads((folder / "out.json").read_text())["nvbandwidth"]
    return told


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_planned_cell_has_its_place_in_the_matrix(case: Any, tmp_path: Path) -> None:
    cells = plan(case, GPUS, lambda _one, _other: True)
    lines = [figure(case.name, *names(cell), 100.0 * (1 + cell.row) + cell.column) for cell in cells]
    (told,) = document(tmp_path, [*lines, ended(case.name)])["testcases"]
    rows = len(GPUS) if case.square else 1
    expected = [["N/A"] * len(GPUS) for _ in range(rows)]
    for cell in cells:
        expected[cell.row][cell.column] = f"{100.0 * (1 + cell.row) + cell.column:g}"
        row, column = cell_of(case, *names(cell))
        assert (row, column) == (GPUS[cell.row] if case.square else None, GPUS[cell.column])
    assert told["bandwidth_matrix"][:rows] == expected
    assert told["status"] == "Passed"


def test_the_shape_is_nvbandwidths(tmp_path: Path) -> None:
    case = "device_to_device_memcpy_write_ce"
    told = document(tmp_path, [figure(case, "gpu0", "gpu1", 21.83456789), ended(case)])
    assert told["testcases"] == [
        {
            "name": case,
            "status": "Passed",
            "bandwidth_description": "memcpy CE GPU(row) <- GPU(column) bandwidth (GB/s)",
            "bandwidth_matrix": [["N/A", "21.8346"], ["N/A", "N/A"]],
            "sum": pytest.approx(21.83456789),
        }
    ]
    assert told["GPU Device list"][0].startswith("0: NVIDIA ")
    assert told["GPU Device list"][0].endswith(" (00000000:04:00): (host)")
    assert told["Driver Version"]
    assert told["version"].startswith("dmaproof ")


def test_bidirectional_cases_have_three_matrices_in_one_and_the_sum_of_the_last(tmp_path: Path) -> None:
    case = "device_to_device_bidirectional_memcpy_read_sm"
    lines = [
        figure(case, "gpu1", "gpu0", 1.0),
        figure(case, "gpu1", "gpu0", 2.0, "opposite_GBps"),
        figure(case, "gpu1", "gpu0", 3.0, "sum_GBps"),
    ]
    (told,) = document(tmp_path, [*lines, ended(case)])["testcases"]
    none = ["N/A", "N/A"]
    assert told["bandwidth_matrix"] == [["N/A", "1"], none, ["N/A", "2"], none, ["N/A", "3"], none]
    assert told["sum"] == 3.0
    assert told["bandwidth_description"] == "memcpy SM GPU(row) <-> GPU(column) Total bandwidth (GB/s)"


def test_what_was_waived_or_failed_says_why(tmp_path: Path) -> None:
    lines: list[AnyLine] = [
        ended("device_local_copy_tma", "skipped", "needs compute capability 9.0"),
        figure("device_local_copy", "gpu0", "gpu0", 5.0),
        ended("device_local_copy", "failed", "a hang"),
        ended("all_to_one_write_ce", "error", "poisoned"),
    ]
    waived, failed, error = document(tmp_path, lines)["testcases"]
    assert waived == {"name": "device_local_copy_tma", "status": "Waived", "reason": "needs compute capability 9.0"}
    assert (failed["status"], failed["error"]) == ("Error", "a hang")
    assert failed["bandwidth_matrix"] == [["5", "N/A"]]
    assert error == {"name": "all_to_one_write_ce", "status": "Error", "error": "poisoned"}


def test_a_run_that_was_cut_off_gives_what_there_is(tmp_path: Path) -> None:
    done, begun = "host_to_device_memcpy_ce", "device_to_host_memcpy_ce"
    lines: list[AnyLine] = [figure(done, "host", "gpu0", 50.0), ended(done), figure(begun, "gpu1", "host", 40.0)]
    told = document(tmp_path, lines, whole=False)
    assert "did not come to its end" in told["error"]
    assert [(one["name"], one["status"], one["bandwidth_matrix"]) for one in told["testcases"]] == [
        (done, "Passed", [["50", "N/A"]]),
        (begun, "Error", [["N/A", "40"]]),
    ]


def test_other_tests_are_no_cases(tmp_path: Path) -> None:
    other = TestLine.model_validate({"id": id_of("no_such_case"), "outcome": "passed", "duration_s": 1.0})
    assert document(tmp_path, [*records.healthy(RIG)[1], other])["testcases"] == []


def test_the_arrows_are_those_of_nvbandwidth() -> None:
    """testcases_ce.cpp: a read and a write have each other's arrow."""
    arrows = {name: nvbandwidth.description(BY_NAME[name]).split("(row) ")[1].split(" GPU")[0] for name in (
        "host_to_device_memcpy_ce", "device_to_host_memcpy_ce", "device_to_device_memcpy_read_ce",
        "device_to_device_memcpy_write_ce", "all_to_host_memcpy_ce", "host_to_all_memcpy_ce", "all_to_one_write_ce",
        "all_to_one_read_ce", "one_to_all_write_ce", "one_to_all_read_ce", "host_to_device_bidirectional_memcpy_sm",
    )}  # fmt: skip
    assert list(arrows.values()) == ["->", "<-", "->", "<-", "<-", "->", "<-", "->", "->", "<-", "<->"]


@pytest.mark.parametrize(("path", "why"), [(".", "is a folder"), ("no/file.json", "there is no folder")])
def test_a_bad_path_is_one_sentence(path: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=why):
        nvbandwidth.checked(tmp_path / path)


def test_a_good_path_is_left_as_it_was(tmp_path: Path) -> None:
    nvbandwidth.checked(tmp_path / "out.json")
    assert list(tmp_path.iterdir()) == []
