"""The keeper, with a program in QEMU's place that does what a lab host may do: come up, say nothing, die, outlive."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dmaproof.guest.folder import AGENT, CONSOLE, ROOT
from dmaproof.node.remote import GONE

COMES_UP = """
import base64, io, json, os, socket, struct, sys, tarfile, time
from pathlib import Path
from dmaproof.rig import archive
archive.save(Path(sys.argv[1]), Path("own.tar.gz"), "test", with_log=False)
Path("pid").write_text(str(os.getpid()))
listener = socket.socket(socket.AF_UNIX); listener.bind("control.sock"); listener.listen()
sock, _ = listener.accept()
def say(kind, **words):
    data = json.dumps({"kind": kind, **words}).encode()
    sock.sendall(struct.pack("!I", len(data)) + data)
def log(text):
    say("log", records=base64.b64encode(text).decode())
log(b"6,1,100,-;Linux version 7.2\\n")
say("machine", archive=base64.b64encode(Path("own.tar.gz").read_bytes()).decode(), now_s=1.0)
log(b"6,2,200,-;later\\n")
while not Path("die").exists():
    time.sleep(0.02)
Path("console.txt").write_text("[ 9.9] \\x1b[1mKernel panic - not syncing: VFS\\x1b[0m\\r\\n")
sys.exit(7)
"""
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "nodes/box"
    (folder / AGENT).mkdir(parents=True)
    return folder


@pytest.fixture
def keep(folder: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str, deadline_s: float = 20.0) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "dmaproof.guest.keeper", str(folder), str(deadline_s), "--", *command]
        started.append(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        for pipe in (one.stdin, one.stdout):
            assert pipe is not None
            pipe.close()
        one.wait()


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    root = tmp_path / "machine"
    (root / "sys/bus/pci/devices").mkdir(parents=True)
    (root / "proc").mkdir()
    (root / "proc/version").write_text("Linux version 7.2.13 (x@y)\n")
    return root


def line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], 20)
    return process.stdout.readline().decode().strip() if ready else "nothing"


def hung_up(process: subprocess.Popen[bytes]) -> int:
    assert process.stdin is not None
    process.stdin.close()
    return process.wait(20)


def until(true: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_host_that_comes_up_has_its_files_and_its_log_here(keep: Start, folder: Path, machine: Path) -> None:
    keeper = keep(sys.executable, "-c", COMES_UP, str(machine))
    assert line(keeper) == "ready"
    assert (folder / ROOT / "proc/version").read_text().startswith("Linux version 7.2.13")
    log = folder / ROOT / "dev/kmsg"
    assert until(lambda: log.read_text() == "6,1,100,-;Linux version 7.2\n6,2,200,-;later\n")
    pid = int((folder / "pid").read_text())
    assert hung_up(keeper) == 0
    assert not lives(pid)
    assert not folder.parent.exists()


def test_a_killed_harness_leaves_nothing(keep: Start, folder: Path, machine: Path) -> None:
    """The keeper's input ends with whoever holds its other end."""
    with subprocess.Popen(
        [sys.executable, "-c", HARNESS, str(folder), COMES_UP, str(machine)], stdout=subprocess.PIPE
    ) as harness:
        try:
            assert line(harness) == "ready"
            pid = int((folder / "pid").read_text())
        finally:
            harness.kill()
    assert until(lambda: not lives(pid) and not folder.parent.exists())


HARNESS = """
import subprocess, sys
command = [sys.executable, "-m", "dmaproof.guest.keeper", sys.argv[1], "20", "--", sys.executable, "-c", *sys.argv[2:]]
keeper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
print(keeper.stdout.readline().decode().strip(), flush=True)
keeper.wait()
"""


def test_a_host_that_nobody_waits_for_need_not_come_up(keep: Start, folder: Path) -> None:
    keeper = keep("sh", "-c", "echo $$ >pid; exec sleep 1000", deadline_s=60)
    assert until((folder / "pid").exists)
    assert until(lambda: (folder / "pid").read_text() != "")
    pid = int((folder / "pid").read_text())
    assert keeper.stdin is not None
    keeper.stdin.close()
    keeper.wait(3)
    assert not lives(pid)
    assert not folder.exists()


def test_a_killed_keeper_takes_qemu_along(keep: Start, folder: Path, machine: Path) -> None:
    keeper = keep(sys.executable, "-c", COMES_UP, str(machine))
    assert line(keeper) == "ready"
    pid = int((folder / "pid").read_text())
    keeper.kill()
    assert until(lambda: not lives(pid))


def test_ctrl_c_is_not_for_the_keeper(keep: Start, machine: Path, folder: Path) -> None:
    keeper = keep(sys.executable, "-c", COMES_UP, str(machine))
    assert line(keeper) == "ready"
    keeper.send_signal(signal.SIGINT)
    time.sleep(0.2)
    assert keeper.poll() is None
    assert lives(int((folder / "pid").read_text()))


def test_a_host_that_does_not_come_up_is_told_with_its_last_words(keep: Start, folder: Path) -> None:
    (folder / CONSOLE).write_text("ok\nKernel panic - not syncing: VFS: Unable to mount root fs\nCall Trace:\n")
    keeper = keep("sleep", "1000", deadline_s=0.5)
    said = line(keeper)
    assert said.startswith("the machine did not come up within 0.5 s; the console says: Kernel panic - not syncing")
    hung_up(keeper)
    assert not folder.exists()


def test_a_qemu_that_refuses_is_quoted(keep: Start, folder: Path) -> None:
    complaint = "2026-11-21T17:35:48.787819Z qemu: -device edo: not a valid device name"
    keeper = keep("sh", "-c", f"echo {complaint} >&2; exit 3")
    said = line(keeper)
    assert "QEMU ended while the machine was booting (status 3)" in said
    assert "QEMU says: qemu: -device edo: not a valid device name" in said
    hung_up(keeper)


def test_a_host_that_is_killed_is_told_so(keep: Start, folder: Path, machine: Path) -> None:
    keeper = keep(sys.executable, "-c", COMES_UP, str(machine))
    assert line(keeper) == "ready"
    os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
    gone = folder / AGENT / GONE
    assert until(lambda: gone.exists() and "QEMU was killed by SIGKILL" in gone.read_text())


def test_a_host_that_ends_later_leaves_word(keep: Start, folder: Path, machine: Path) -> None:
    keeper = keep(sys.executable, "-c", COMES_UP, str(machine))
    assert line(keeper) == "ready"
    (folder / "die").touch()
    gone = folder / AGENT / GONE
    assert until(gone.exists)
    assert until(lambda: "QEMU ended (status 7)" in gone.read_text())
    assert until(lambda: "Kernel panic - not syncing: VFS" in gone.read_text())
    assert "\x1b" not in gone.read_text()
    assert (folder / ROOT).is_dir(), "somebody may still be reading"
    hung_up(keeper)
    assert not folder.exists()
