"""What a cache folder holds: whole things only, whoever is killed when."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dmaproof.errors import UsageError
from dmaproof.guest import store

MAKER = """
import subprocess, sys, time
from dmaproof.guest import child, store
from dmaproof.node.deadline import Deadline
from pathlib import Path
with store.locked() as lock, store.making(store.folder() / "kernel" / "own") as scratch:
    (scratch / "half").write_text("made")
    said = lambda line: print(line, flush=True)
    script = "sleep 100 & echo $$ $!; wait"
    child.run(["sh", "-c", script], Path(sys.argv[1]), Deadline.after(60), line=said, keep=(lock,))
"""


def things(cache: Path) -> list[str]:
    return sorted(one.name for one in (cache / "kernel").iterdir())


def test_a_thing_is_there_when_it_is_whole(cache: Path) -> None:
    with store.locked(), store.making(cache / "kernel" / "own") as scratch:
        (scratch / "vmlinuz").write_text("1")
        assert store.newest("kernel", "*") is None
    assert store.newest("kernel", "ow*") == cache / "kernel" / "own"
    assert (cache / "kernel" / "own" / "vmlinuz").read_text() == "1"
    with store.locked(), store.making(cache / "kernel" / "own") as scratch:
        (scratch / "vmlinuz").write_text("2")
    assert (cache / "kernel" / "own" / "vmlinuz").read_text() == "2"
    assert things(cache) == ["own"]


def test_of_a_failure_nothing_is_left(cache: Path) -> None:
    def fail() -> None:
        with store.locked(), store.making(cache / "kernel" / "own") as scratch:
            (scratch / "vmlinuz").write_text("1")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert things(cache) == []


def test_the_newest_is_what_was_made_last(cache: Path) -> None:
    for age_s, name in enumerate(("own-2", "own-1", "own-3")):
        (cache / "kernel" / name).mkdir(parents=True)
        os.utime(cache / "kernel" / name, (0, 1000 - age_s))
    assert store.newest("kernel", "own-*") == cache / "kernel" / "own-2"


def test_a_killed_maker_leaves_no_process_and_what_it_half_made_is_swept_up(cache: Path, tmp_path: Path) -> None:
    maker = subprocess.Popen([sys.executable, "-c", MAKER, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True)
    with maker:
        assert maker.stdout is not None
        pids = [int(word) for word in maker.stdout.readline().split()]
        assert len(pids) == 2
        maker.send_signal(signal.SIGKILL)
    until = time.monotonic() + 20
    while any(Path(f"/proc/{pid}/exe").exists() for pid in pids):
        assert time.monotonic() < until, "the command outlived who asked for it"
        time.sleep(0.02)
    assert len(things(cache)) == 1
    with store.locked(patience_s=20):
        assert things(cache) == []


def test_a_second_maker_waits_and_is_told_for_whom(cache: Path) -> None:
    told: list[str] = []

    def second() -> None:
        with store.locked(lambda what, far, _fraction: told.append(f"{what}: {far}"), patience_s=0.3):
            pass

    with store.locked(), pytest.raises(UsageError, match=rf"in use by process {os.getpid()} for 0\.3 s"):
        second()
    assert told[0] == f"waiting: process {os.getpid()} is at work in {cache}"
    with store.locked(patience_s=0):
        pass


def test_a_folder_that_cannot_be_written_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    if os.geteuid() == 0:  # nothing is forbidden to root but a file system that says so
        monkeypatch.setenv("XDG_CACHE_HOME", "/sys/fs")
    else:
        tmp_path.chmod(0o500)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UsageError, match="set XDG_CACHE_HOME"), store.locked():
        pass
