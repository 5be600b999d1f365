"""A disk that fills up: one sentence, and no half-written report."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmaproof.errors import ReportError
from dmaproof.report.folder import run_folder
from dmaproof.report.html import write_html
from dmaproof.report.record import EvidenceLine
from dmaproof.report.stream import RecordWriter, read
from tests.report import records

RIG = records.hgx()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB and 20 inodes."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=20", "tmpfs", str(disk)],
        check=False,
        capture_output=True,
        text=True,
    )
    if mount.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs here: {mount.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def big(nbytes: int) -> EvidenceLine:
    return EvidenceLine(test="t", source="s", node="n", time_s=0, what="w", text="x" * nbytes)


def test_a_full_disk_keeps_the_record_whole(tiny_disk: Path) -> None:
    path = tiny_disk / "record.jsonl"
    with RecordWriter(path) as writer:
        writer.write(records.opening(RIG))
        before = path.read_bytes()
        with pytest.raises(ReportError, match=r"record\.jsonl: No space left on device; free some space") as caught:
            writer.write([big(10_000), big(100_000)])
        assert "\n" not in str(caught.value)
        assert path.read_bytes() == before
        writer.write([records.end(RIG)])  # a smaller unit still fits
    assert read(path).whole


def test_a_report_that_does_not_fit_leaves_the_old_one(tiny_disk: Path, tmp_path: Path) -> None:
    small = read(records.write(tmp_path / "small", [records.opening(RIG)]))
    large = read(records.write(tmp_path / "large", records.healthy(RIG)))
    report = tiny_disk / "report.html"
    write_html(small, report)
    before = report.read_text()
    with pytest.raises(ReportError, match=r"report\.html: No space left on device; free some space"):
        write_html(large, report)
    assert [path.name for path in tiny_disk.iterdir()] == ["report.html"]
    assert report.read_text() == before


def test_a_run_that_gets_no_folder_leaves_none(tiny_disk: Path) -> None:
    made: list[Path] = []
    with pytest.raises(ReportError, match=r"cannot make the run folder .*No space left on device; free some space"):
        made.extend(run_folder(tiny_disk, "host", records.START) for _ in range(20))
    assert sorted(tiny_disk.iterdir()) == sorted([*made, tiny_disk / "latest"])
    assert (tiny_disk / "latest").resolve() == made[-1]
