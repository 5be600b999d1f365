"""``dmaproof report``: made again from records on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dmaproof.report.record import AnyLine, RigLine, TestLine
from dmaproof.report.stream import RecordWriter
from dmaproof.rig.load import load
from tests.report import records
from tests.support.console import dmaproof

RIG = load("virtual:pcie-pair")


def record(folder: Path, *, outcome: str = "passed", exit_status: int = 0, ended: bool = True) -> Path:
    folder.mkdir(parents=True)
    opening: list[AnyLine] = [records.start(RIG), RigLine(declared=RIG.model_dump(mode="json", exclude_none=True))]
    test = TestLine.model_validate({"id": "suites/p2p/test_x.py::test_y", "outcome": outcome, "duration_s": 0.1})
    with RecordWriter(folder / "record.jsonl") as writer:
        writer.write(opening)
        writer.write([test])
        if ended:
            writer.write([records.end(RIG, exit_status=exit_status)])
    return folder


@pytest.mark.parametrize("as_file", [False, True])
def test_a_run_is_reported_from_its_folder_or_its_record(as_file: bool, tmp_path: Path) -> None:
    folder = record(tmp_path / "run")
    said = dmaproof("report", folder / "record.jsonl" if as_file else folder)
    assert (said.status, said.err) == (0, "")
    assert "virtual:pcie-pair: 1 passed" in said.out
    html = (folder / "report.html").read_text()
    assert "virtual:pcie-pair" in html


def test_the_latest_run_is_the_default(tmp_path: Path) -> None:
    folder = record(tmp_path / "reports/runs/one")
    (folder.parent / "latest").symlink_to(folder.name)
    said = dmaproof("report", cwd=tmp_path)
    assert said.status == 0
    assert (folder / "report.html").exists()


def test_no_run_yet(tmp_path: Path) -> None:
    assert "no run yet: reports/runs/latest is not there" in dmaproof("report", cwd=tmp_path).complaint


@pytest.mark.parametrize(
    ("outcome", "exit_status", "ended"),
    [("failed", 1, True), ("error", 1, True), ("passed", 2, True), ("passed", 0, False)],
    ids=["failed", "error", "interrupted", "cut short"],
)
def test_a_run_that_proves_nothing_is_a_finding(outcome: str, exit_status: int, ended: bool, tmp_path: Path) -> None:
    folder = record(tmp_path / "run", outcome=outcome, exit_status=exit_status, ended=ended)
    said = dmaproof("report", folder)
    assert (said.status, said.err) == (1, "")
    assert (folder / "report.html").exists()


def test_a_line_cut_after_the_end_is_a_finding(tmp_path: Path) -> None:
    folder = record(tmp_path / "run")
    with (folder / "record.jsonl").open("ab") as file:
        file.write(b'{"kind":"te')
    assert dmaproof("report", folder).status == 1


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00junk", b'{"kind": "run"}\n', b"[" * 100])
def test_what_is_no_record_gets_one_line_and_no_report(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "record.jsonl"
    file.write_bytes(content)
    assert str(file) in dmaproof("report", file).complaint
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_without_a_record(tmp_path: Path) -> None:
    assert "No such file or directory" in dmaproof("report", tmp_path).complaint


def test_the_cases_of_nvbandwidth_on_request(tmp_path: Path) -> None:
    folder = record(tmp_path / "run")
    assert dmaproof("report", folder, "--nvbandwidth-json", tmp_path / "out.json").status == 0
    told = json.loads((tmp_path / "out.json").read_text())["nvbandwidth"]
    assert told["testcases"] == []
    assert "there is no folder" in dmaproof("report", folder, "--nvbandwidth-json", tmp_path / "no/out.json").complaint
