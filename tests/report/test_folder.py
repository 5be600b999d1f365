"""Run folders: unique, linked, taken back when they cannot be made."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmaproof.errors import ReportError
from dmaproof.report.folder import evidence_name, run_folder

NOW = datetime(2026, 3, 14, 10, 26, 53, tzinfo=timezone(timedelta(hours=1)))


def test_a_folder_is_named_by_utc_time_and_rig(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "reports" / "runs", "virtual:hgx-h100", NOW)
    assert folder == tmp_path / "reports" / "runs" / "2026-03-14T09-26-53Z-virtual-hgx-h100"
    assert (folder / "evidence").is_dir()
    latest = folder.parent / "latest"
    assert str(latest.readlink()) == folder.name
    assert sorted(path.name for path in folder.parent.iterdir()) == [folder.name, "latest"]


def test_runs_of_one_second_get_folders_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        folders = set(pool.map(lambda _: run_folder(tmp_path, "host", NOW), range(48)))
    assert len(folders) == 48
    assert (tmp_path / "latest").resolve() in folders
    assert len(list(tmp_path.iterdir())) == 49  # no link left half made


def test_the_latest_is_the_last(tmp_path: Path) -> None:
    run_folder(tmp_path, "host", NOW)
    second = run_folder(tmp_path, "host", NOW + timedelta(seconds=1))
    assert (tmp_path / "latest").resolve() == second


@pytest.mark.parametrize("rig", ["../../etc", "/abs/path.toml", "", "..", "x" * 500, "ü\n:"])
def test_no_rig_leaves_the_base(tmp_path: Path, rig: str) -> None:
    assert run_folder(tmp_path, rig, NOW).parent == tmp_path


def test_a_file_in_the_way_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "reports").touch()
    with pytest.raises(ReportError, match=r"cannot make the run folder .*reports.*; "):
        run_folder(tmp_path / "reports", "host", NOW)


def test_a_real_folder_called_latest_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    with pytest.raises(ReportError, match="a real folder is in the way; move it elsewhere"):
        run_folder(tmp_path, "host", NOW)
    assert [path.name for path in tmp_path.iterdir()] == ["latest"]


@given(test=st.text(st.characters()), what=st.text(min_size=1))
def test_evidence_names_are_safe(test: str, what: str) -> None:
    name = evidence_name(test, what)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name)
    assert len(name) <= 160


def test_evidence_names_differ_where_ids_do() -> None:
    ids = ["a/test_x.py::test[gpu0]", "b/test_x.py::test[gpu0]", "a/test_x.py::test[gpu:0]", "y" * 300, "y" * 301]
    assert len({evidence_name(one, "kmsg.log") for one in ids}) == len(ids)
    assert evidence_name(ids[0], "kmsg.log").startswith("test-gpu0.")
    assert evidence_name(ids[0], "kmsg.log") == evidence_name(ids[0], "kmsg.log")


def test_now_may_be_utc(tmp_path: Path) -> None:
    assert run_folder(tmp_path, "host", NOW.astimezone(UTC)).name == "2026-03-14T09-26-53Z-host"
