"""Files that a machine writes without end, and a guest that really floods its console."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dmaproof.guest import flood, guests, shell
from dmaproof.guest.folder import CONSOLE, QEMU_LOG, TRACE
from dmaproof.guest.place import prepared
from dmaproof.node.deadline import Deadline
from dmaproof.node.node import Node
from dmaproof.node.remote import RemoteWorker
from dmaproof.rig import load
from tests.guest.test_guests import RIG
from tests.support.lab import supplied

KIB = 1 << 10
STARTS = """import subprocess, sys
subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=open("/dev/console", "wb"), start_new_session=True)
"""
MOST_NBYTES, ENDS_NBYTES = 1024 * KIB, 64 * KIB


def written(path: Path, nbytes: int) -> bytes:
    said = os.urandom(nbytes)
    path.write_bytes(said)
    return said


@pytest.mark.parametrize("name", [CONSOLE, QEMU_LOG, TRACE])
def test_of_what_grows_too_long_the_ends_stay_and_the_disk_is_given_back(tmp_path: Path, name: str) -> None:
    path, nbytes = tmp_path / name, MOST_NBYTES + 512 * KIB
    with path.open("wb", buffering=0) as machine:
        said = os.urandom(nbytes)
        machine.write(said)
        before_nbytes = path.stat().st_blocks * 512
        flood.thin(tmp_path, MOST_NBYTES, ENDS_NBYTES)
        after_nbytes = path.stat().st_blocks * 512
        machine.write(b"and on it goes")
    assert before_nbytes >= nbytes
    assert after_nbytes <= 2 * ENDS_NBYTES + 8 * KIB
    now = path.read_bytes()
    assert now[:ENDS_NBYTES] == said[:ENDS_NBYTES]
    assert now[nbytes - ENDS_NBYTES :] == said[-ENDS_NBYTES:] + b"and on it goes"


def test_what_is_no_longer_than_that_stays_whole(tmp_path: Path) -> None:
    said = written(tmp_path / CONSOLE, MOST_NBYTES)
    flood.thin(tmp_path, MOST_NBYTES, ENDS_NBYTES)
    assert (tmp_path / CONSOLE).read_bytes() == said
    assert flood.both_ends(tmp_path / CONSOLE, MOST_NBYTES, ENDS_NBYTES) == said


def test_nothing_there_is_nothing_to_do(tmp_path: Path) -> None:
    flood.thin(tmp_path)
    assert not flood.spoken(tmp_path).flood


def test_both_ends_are_kept_with_a_word_on_what_is_left_out(tmp_path: Path) -> None:
    said = written(tmp_path / CONSOLE, MOST_NBYTES + 1)
    kept = flood.both_ends(tmp_path / CONSOLE, MOST_NBYTES, ENDS_NBYTES)
    first, word, last = kept[:ENDS_NBYTES], kept[ENDS_NBYTES:-ENDS_NBYTES], kept[-ENDS_NBYTES:]
    assert (first, last) == (said[:ENDS_NBYTES], said[-ENDS_NBYTES:])
    assert word == f"\n[dmaproof: {MOST_NBYTES + 1 - 2 * ENDS_NBYTES} bytes left out]\n".encode()


def test_a_console_that_grows_fast_or_is_long_is_a_flood(tmp_path: Path) -> None:
    written(tmp_path / CONSOLE, 100 * KIB)
    assert not flood.spoken(tmp_path).flood
    written(tmp_path / CONSOLE, 1024 * KIB)
    assert flood.spoken(tmp_path).flood


@contextmanager
def writing(folder: Path, nbytes: int, times: int, every_s: float = 0.1) -> Iterator[None]:
    """Meanwhile somebody puts ``nbytes`` on the console, ``times`` times."""
    source = (
        "import sys, time\nfor _ in range(int(sys.argv[3])):\n open(sys.argv[1], 'ab').write(b'-' * int(sys.argv[2]))"
    )
    argv = [sys.executable, "-c", source + f"\n time.sleep({every_s})", str(folder / CONSOLE), str(nbytes), str(times)]
    with subprocess.Popen(argv) as writer:
        until = time.monotonic() + 10
        while not (folder / CONSOLE).exists() and time.monotonic() < until:
            time.sleep(0.01)
        yield
        writer.kill()


def test_a_console_that_goes_on_and_on_is_a_flood_also_where_the_machine_is_slow(tmp_path: Path) -> None:
    with writing(tmp_path, nbytes=KIB, times=1000):
        spoken = flood.spoken(tmp_path)
    assert spoken.flood, spoken
    assert 4 * KIB <= spoken.bytes_per_s <= 11 * KIB


def test_an_oops_is_not(tmp_path: Path) -> None:
    with writing(tmp_path, nbytes=8 * KIB, times=2, every_s=0.2):
        spoken = flood.spoken(tmp_path)
    assert not spoken.flood, spoken


@pytest.mark.skipif(os.geteuid() != 0, reason="binding to VFIO needs root")
def test_of_a_guest_that_floods_its_console_it_is_told_how_much(tmp_path: Path) -> None:
    supplied(python=True)
    rig = load.parse(RIG % "own", "mine.toml")
    endless = "import os\nwhile True: os.write(1, b'so it goes, ' * 300)"
    argv = ["/usr/bin/python3", "-c", STARTS, endless]
    with (
        prepared(rig, ["one"], tmp_path / "work") as places,
        guests.provision(rig, places["one"], Node("host"), "ours", tmp_path) as guest,
        RemoteWorker(guest.node, tmp_path, run_id="ours") as worker,
    ):
        quiet = guest.console()
        assert worker.run(shell.run, deadline=Deadline.after(30), argv=argv, folder="/").status == 0
        until = time.monotonic() + 30
        while not (loud := guest.console()).flood and time.monotonic() < until:
            time.sleep(0.1)
    assert not quiet.flood
    assert loud.flood, loud
    assert "so it goes" in loud.last_words
