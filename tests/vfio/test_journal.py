"""The journal with real files and processes: what a killed process leaves is put back, a living one's is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmaproof.errors import DmaproofError
from dmaproof.vfio import journal
from dmaproof.vfio.bind import changed, kept_journal
from dmaproof.vfio.journal import Binding, Entry, Journal, Setting
from dmaproof.vfio.restore import replay
from tests.support.harness import gone, line, program

BINDING = Binding("0000:01:00.0", "nvme", None, "vfio-pci")

CHANGES = """
    import sys, time
    from pathlib import Path
    from dmaproof.vfio.bind import changed, kept_journal
    with kept_journal(Path({folder!r})) as ours:
        changed(ours, Path({file!r}), "ours")
        print("changed", flush=True)
        time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "bindings"


@pytest.fixture
def setting(tmp_path: Path) -> Path:
    path = tmp_path / "setting"
    path.write_text("theirs\n")
    return path


def source(folder: Path, setting: Path) -> str:
    return CHANGES.format(folder=str(folder), file=str(setting))


def killed(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(10)


def test_what_is_changed_is_put_back_and_no_file_stays(folder: Path, setting: Path) -> None:
    with kept_journal(folder) as ours:
        changed(ours, setting, "ours")
        assert setting.read_text() == "ours"
        assert len(list(folder.glob("*.jsonl"))) == 1
    assert setting.read_text() == "theirs"
    assert list(folder.glob("*.jsonl")) == []


def test_an_error_inside_puts_things_back_too(folder: Path, setting: Path) -> None:
    def failing() -> None:
        with kept_journal(folder) as ours:
            changed(ours, setting, "ours")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert setting.read_text() == "theirs"


def test_a_killed_process_is_followed_by_a_start_that_puts_things_back(folder: Path, setting: Path) -> None:
    with program(source(folder, setting)) as process:
        assert line(process) == "changed"
        killed(process)
    assert setting.read_text() == "ours"
    assert replay(folder) == (Setting(str(setting), "theirs", "ours"),)
    assert setting.read_text() == "theirs"
    assert list(folder.glob("*.jsonl")) == []
    assert replay(folder) == ()


def test_a_living_process_is_left_alone(folder: Path, setting: Path) -> None:
    with program(source(folder, setting)) as process:
        assert line(process) == "changed"
        assert replay(folder) == ()
        assert setting.read_text() == "ours"
        with journal.found(folder) as kept:
            assert [(one.alive, one.entries) for one in kept] == [(True, (Setting(str(setting), "theirs", "ours"),))]
        killed(process)
        assert gone(process.pid)
    assert len(replay(folder)) == 1


def test_what_somebody_has_changed_since_is_left_alone(folder: Path, setting: Path) -> None:
    with program(source(folder, setting)) as process:
        line(process)
        killed(process)
    setting.write_text("an administrator's")
    replay(folder)
    assert setting.read_text() == "an administrator's"


def test_what_cannot_be_put_back_stays_in_the_journal(folder: Path, setting: Path) -> None:
    other = setting.with_name("other")
    other.write_text("theirs")

    def blocked() -> None:
        with kept_journal(folder) as ours:
            changed(ours, other, "ours")
            changed(ours, setting, "ours")
            setting.unlink()
            setting.mkdir()

    with pytest.raises(DmaproofError, match=rf"could not put back: Setting\(path='{setting}'.*Is a directory"):
        blocked()
    assert other.read_text() == "theirs"
    with pytest.raises(DmaproofError, match="an earlier run's changes could not be put back"):
        replay(folder)
    setting.rmdir()
    setting.write_text("ours")
    replay(folder)
    assert setting.read_text() == "theirs"


def test_the_last_change_is_undone_first(folder: Path, setting: Path) -> None:
    with kept_journal(folder) as ours:
        changed(ours, setting, "first")
        changed(ours, setting, "second")
    assert setting.read_text() == "theirs"


def test_entries_are_on_disk_before_the_act(folder: Path) -> None:
    ours = Journal(folder)
    ours.write(BINDING)
    (path,) = folder.glob("*.jsonl")
    first, second = map(json.loads, path.read_text().splitlines())
    assert first["pid"] == os.getpid()
    assert second == {"kind": "binding", "bdf": "0000:01:00.0", "driver": "nvme", "override": None, "ours": "vfio-pci"}
    ours.forget(BINDING)
    ours.close()


def test_an_entry_is_forced_to_disk_before_write_returns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forced: list[str] = []
    fsync = os.fsync

    def recording(fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        forced.append(path.read_text() if path.is_file() else "folder")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", recording)
    ours = Journal(folder)
    assert "folder" in forced, "a file whose folder is not on disk is lost with its name"
    ours.write(BINDING)
    assert '"bdf": "0000:01:00.0"' in forced[-1]
    ours.forget(BINDING)
    ours.close()


def test_another_boots_journal_is_void(folder: Path, setting: Path) -> None:
    folder.mkdir()
    lines = [{"boot": "earlier", "pid": 1}, journal.to_json(Setting(str(setting), "older", "theirs"))]
    (folder / "1-1.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    assert replay(folder) == ()
    assert setting.read_text() == "theirs\n"
    assert list(folder.glob("*.jsonl")) == []


words = st.none() | st.text(max_size=8)
entries = st.lists(
    st.builds(Binding, bdf=st.text(max_size=12), driver=words, override=words, ours=st.text(max_size=8))
    | st.builds(Setting, path=st.text(max_size=12), was=st.text(max_size=8), ours=st.text(max_size=8)),
    max_size=5,
)


@given(written=entries, cut=st.integers(0, 40))
def test_a_journal_cut_short_loses_only_its_last_line(written: list[Entry], cut: int) -> None:
    content = "\n".join(json.dumps(one) for one in [{"boot": "b", "pid": 1}, *map(journal.to_json, written)]) + "\n"
    assert journal.parse(content, "b") == tuple(written)
    read = journal.parse(content[: len(content) - cut], "b")
    assert read == tuple(written)[: len(read)]


@given(content=st.text())
def test_any_content_is_read(content: str) -> None:
    journal.parse(content, "b")


def test_one_at_a_time(folder: Path) -> None:
    def impatient() -> None:
        with journal.alone(folder, patience_s=0.1):
            pass

    with (
        journal.alone(folder),
        pytest.raises(DmaproofError, match=r"another process has been binding devices for 0\.1 s"),
    ):
        impatient()
    order: list[str] = []

    def second() -> None:
        with journal.alone(folder):
            order.append("second")

    thread = threading.Thread(target=second)
    with journal.alone(folder):
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DmaproofError, match="for the journal of bindings: Not a directory"):
        Journal(tmp_path / "file/bindings")
