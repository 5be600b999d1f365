"""The summary on a terminal."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from dmaproof.report.record import AnyLine, EvidenceLine, VerdictLine
from dmaproof.report.stream import read
from dmaproof.report.summary import print_summary
from tests.report import records

RIG = records.hgx()


def said(tmp_path: Path, units: list[list[AnyLine]], width: int = 400, *, terminal: bool = True) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    print_summary(read(records.write(tmp_path / "record.jsonl", units)), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_failing_run(tmp_path: Path) -> None:
    lines = said(tmp_path, records.failing(RIG)).splitlines()
    assert lines[:4] == [
        "Virtual rig: this run proves the suite, never a machine.",
        "Planted: iommu-blocks-p2p-mailbox, gpu-lost. Failures are meant to happen.",
        "virtual:hgx-h100: 100 passed, 8 failed, 1 error, 15 skipped in 2 min 12 s",
        "iommu-blocks-p2p-mailbox (certain), 7 tests",
    ]
    assert "gpu-lost (probable), 1 test" in lines
    assert "1 failed test without a verdict:" in lines
    assert "poisoned: 0000:df:00.0: probe failed: CUDA_ERROR_NO_DEVICE (100)" in lines
    assert lines[-1] == f"reports: {tmp_path} (record.jsonl)"


def test_a_remedy_is_read_to_its_end(tmp_path: Path) -> None:
    units = records.failing(RIG)
    remedy = "Boot with iommu=pt. " * 30 + "Then run it again."
    told = [
        [line.model_copy(update={"remedy": remedy}) if isinstance(line, VerdictLine) else line for line in unit]
        for unit in units
    ]
    assert f"  remedy: {remedy}\n" in said(tmp_path, told, width=2000)


def test_what_the_whole_run_could_not_see_is_told_once(tmp_path: Path) -> None:
    units = records.failing(RIG)
    spot = next(line.text for line in units[0] if isinstance(line, EvidenceLine))
    told = [
        [
            line.model_copy(update={"blind_spots": (*line.blind_spots, spot)})
            if isinstance(line, VerdictLine)
            else line
            for line in unit
        ]
        for unit in units
    ]
    lines = said(tmp_path, told).splitlines()
    assert [line for line in lines if spot in line] == [f"not seen in the whole run: {spot}"]
    assert sum(line.startswith("  not seen: ") for line in lines) == 2, "those of a verdict stay with it"
    (tmp_path / "healthy").mkdir()
    assert "not seen" not in said(tmp_path / "healthy", records.healthy(RIG)), (
        "a run without a failure has its report for that"
    )


def test_a_host_run_names_no_virtual_rig(tmp_path: Path) -> None:
    units = records.healthy(RIG)
    units[0][0] = units[0][0].model_copy(update={"rig_kind": "host", "rig": "host"})
    text = said(tmp_path, units)
    assert text.startswith("host: 312 passed, 9 skipped in 1 min 23 s\n")
    assert "never a machine" not in text


def test_a_cut_run_says_so(tmp_path: Path) -> None:
    assert "The record has no end line" in said(tmp_path, records.failing(RIG)[:9])


@pytest.mark.parametrize("width", [20, 40, 80])
@pytest.mark.parametrize("make", [records.failing, records.hostile])
def test_no_line_is_wider_than_the_terminal(tmp_path: Path, width: int, make: object) -> None:
    units = records.failing(RIG) if make is records.failing else records.hostile(RIG)
    text = said(tmp_path, units, width)
    assert max(map(len, text.splitlines())) <= width
    assert len(text) < 20_000


def test_no_text_steers_the_terminal(tmp_path: Path) -> None:
    text = said(tmp_path, records.hostile(RIG))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    assert "[31m" in text  # shown, not obeyed, and not taken for rich's own markup


def test_a_pipe_gets_whole_lines(tmp_path: Path) -> None:
    text = said(tmp_path, records.failing(RIG), width=40, terminal=False)
    assert f"reports: {tmp_path} (record.jsonl)" in text.splitlines()
    assert "    +0.043 s DMAR: [DMA Write NO_PASID] Request device [d1:00.0] fault addr" in text
    assert not [line for line in text.splitlines() if line != line.rstrip()]


def test_both_directions_of_one_cause_are_told(tmp_path: Path) -> None:
    units = [records.opening(RIG)]
    units += [records.mailbox(RIG, "gpu6", "gpu0", 10.0), records.mailbox(RIG, "gpu0", "gpu6", 20.0)]
    lines = said(tmp_path, units).splitlines()
    at = lines.index("iommu-blocks-p2p-mailbox (certain), 2 tests")
    assert lines[at + 1].startswith("  1 test: gpu6 (0000:d1:00.0) wrote to")
    assert lines[at + 2].startswith("  1 test: gpu0 (0000:1b:00.0) wrote to")


def test_more_than_six_summaries_are_counted(tmp_path: Path) -> None:
    lines = said(tmp_path, records.failing(RIG)).splitlines()
    assert len([line for line in lines if line.startswith("  1 test: gpu6")]) == 6
    assert "  and 1 more" in lines


@pytest.mark.parametrize("changes", [{"note": "interrupted"}, {"exit_status": 2}])
def test_an_interrupted_run_is_no_pass(tmp_path: Path, changes: dict[str, object]) -> None:
    units = records.healthy(RIG)
    units[-1] = [units[-1][0].model_copy(update=changes)]
    text = said(tmp_path, units)
    assert "\nINTERRUPTED: virtual:hgx-h100: 312 passed" in text
    assert "The run was stopped after 321 tests" in text


def test_any_other_note_is_told(tmp_path: Path) -> None:
    units = records.healthy(RIG)
    units[-1] = [units[-1][0].model_copy(update={"note": "the disk was full"})]
    text = said(tmp_path, units)
    assert "note: the disk was full\n" in text
    assert "INTERRUPTED" not in text


def test_a_planted_defect_that_no_test_met(tmp_path: Path) -> None:
    units = [records.opening(RIG, ["xid-79", "gpu-lost"]), records.lost(RIG, "gpu7")]
    text = said(tmp_path, units)
    assert "planted defect xid-79 was not met by any test of this run\n" in text
    assert "planted defect gpu-lost" not in text


def test_tests_that_a_poisoned_gpu_kept_from_running_are_one_line(tmp_path: Path) -> None:
    message = "0000:1b:00.0 is not fit for use in this run: after a.py::b[c]: cuInit failed: 999"
    tests: records.Unit = [
        records.passed(f"suites/p2p/t.py::t[{at}]", RIG, "gpu0", outcome="error", message=message) for at in (1, 2)
    ]
    text = said(tmp_path, [records.opening(RIG), tests])
    assert "2 tests not run: 0000:1b:00.0 poisoned after a.py::b[c]\n" in text
    assert "without a verdict" not in text
