"""The summary on a terminal."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from dmaproof.report.record import AnyLine
from dmaproof.report.stream import read
from dmaproof.report.summary import print_summary
from tests.report import records

RIG = records.hgx()


def said(tmp_path: Path, units: list[list[AnyLine]], width: int = 400) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False, color_system=None)
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
