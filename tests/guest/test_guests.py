"""A guest on this very system: a real QEMU and a real kernel, without functions to assign, for there are none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dmaproof.errors import NodeError, NodeLost
from dmaproof.guest import guests, shell
from dmaproof.guest.place import machine, prepared
from dmaproof.node.deadline import Deadline
from dmaproof.node.node import Node
from dmaproof.node.remote import RemoteWorker
from dmaproof.rig import load
from tests.support.lab import supplied

RIG = """
name = "mine"
kind = "lab"
node.host.qemu = {}
node.one.role = "guest"
node.one.guest.on = "host"
node.one.qemu = { cpus = 1, memory_nbytes = 536870912, kernel = "%s" }
"""
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="binding to VFIO needs root")


@pytest.fixture(autouse=True)
def lab() -> None:
    supplied(python=True)


def running(folder: Path) -> str:
    found = subprocess.run(["pgrep", "-af", f"qemu-system.*{folder}"], capture_output=True, text=True, check=False)
    return found.stdout


def test_a_guest_is_a_node_where_work_runs_and_leaves_its_evidence(tmp_path: Path) -> None:
    rig, kept = load.parse(RIG % "own", "mine.toml"), tmp_path / "kept"
    kept.mkdir()
    with prepared(rig, ["one"], tmp_path / "work") as places:
        with guests.provision(rig, places["one"], Node("host"), "ours", kept) as guest:
            assert running(tmp_path)
            assert (guest.node.root / "proc/version").read_text().startswith("Linux version ")
            assert "Linux version" in (guest.node.root / "dev/kmsg").read_text(errors="replace")
            with RemoteWorker(guest.node, kept, run_id="ours") as worker:
                program_there = ["/usr/bin/python3", "-c", "import os; print(os.uname().sysname, os.getpid() < 500)"]
                said = worker.run(shell.run, deadline=Deadline.after(30), argv=program_there, folder="/")
            assert said.output == "Linux True\n"
            assert guest.audit().judged == (), "nothing is assigned"
        assert not running(tmp_path)
        assert list((tmp_path / "work").glob("*")) == [places["one"].initrd]
    assert not (tmp_path / "work").exists()
    assert "vfio_" not in (kept / "one.query-pci.json").read_text()


def test_a_guest_may_have_this_systems_own_root_and_all_that_is_installed_there(tmp_path: Path) -> None:
    rig = load.parse((RIG % "own") + 'node.one.guest.fill = "root"\n', "mine.toml")
    doing = "import pydantic, os; print(os.uname().release, open('/etc/os-release').read())"
    with (
        prepared(rig, ["one"], tmp_path / "work") as places,
        guests.provision(rig, places["one"], Node("host"), "ours", tmp_path) as guest,
        RemoteWorker(guest.node, tmp_path, run_id="ours") as worker,
    ):
        argv = [sys.executable, "-c", doing]
        said = worker.run(shell.run, deadline=Deadline.after(60), argv=argv, folder="/")
    assert said.output == f"{places['one'].image.release} {Path('/etc/os-release').read_text()}\n"
    assert not running(tmp_path)


def test_on_a_lab_host_it_has_the_root_that_the_host_has(tmp_path: Path) -> None:
    """By files that QEMU makes in the folder it is started in, and with virtio rung by I/O ports."""
    rig = load.parse((RIG % "own") + 'node.one.guest.fill = "root"\n', "mine.toml")
    with prepared(rig, ["one"], tmp_path / "work") as places:
        place = places["one"]
        made = machine(rig, place, Node("far", agent=tmp_path), accelerated=True).command
    assert made[: len(place.qemu.argv)] == place.qemu.argv
    assert not [word for word in made if str(place.folder) in word]
    virtio = [word for word in made if word.startswith("virtio-")]
    assert virtio
    assert all(word.endswith(",modern-pio-notify=on") for word in virtio)


def test_a_guest_that_does_not_come_up_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    rig = load.parse((RIG % "own") + 'node.one.parameters = ["init=/nowhere", "rdinit=/nowhere"]\n', "mine.toml")
    with (
        prepared(rig, ["one"], tmp_path / "work") as places,
        pytest.raises(NodeError, match=r"did not come up within .*QEMU ended.*panic"),
        guests.provision(rig.model_copy(update={"deadline": rig.deadline.model_copy(update={"scale": 0.05})}),
                         places["one"], Node("host"), "ours", tmp_path),
    ):  # fmt: skip
        pass
    assert not running(tmp_path)


PYTHON = "/usr/bin/python3"
OOM = "open('/proc/sys/vm/panic_on_oom', 'w').write('2'); kept = [b'x' * (1 << 20) for _ in range(9999)]"


AGENT = """
import os
for pid in filter(str.isdigit, os.listdir('/proc')):
    if open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[1] == '1': os.kill(int(pid), 9)
"""
"""The child of the first process: the agent, whose own children serve the ports."""


@pytest.mark.parametrize(
    ("doing", "how", "told"),
    [
        ("import ctypes; ctypes.CDLL(None).reboot(0x01234567)", "rebooted", "one rebooted; "),
        ("import ctypes; ctypes.CDLL(None).reboot(0x4321fedc)", "was shut down", "one was shut down; "),
        (OOM, "panicked", "Kernel panic - not syncing: Out of memory"),
        (AGENT, "was shut down", "the agent ended (status -9)"),
        ("", "was killed", "QEMU of one was killed (status -9); "),
    ],
    ids=["reboot", "poweroff", "panic", "SIGKILL of its agent", "SIGKILL of QEMU"],
)  # the numbers: LINUX_REBOOT_CMD_RESTART and _POWER_OFF, include/uapi/linux/reboot.h
def test_of_a_guest_that_is_gone_it_is_said_what_became_of_it(tmp_path: Path, doing: str, how: str, told: str) -> None:
    rig = load.parse(RIG % "own", "mine.toml")
    with (
        prepared(rig, ["one"], tmp_path / "work") as places,
        guests.provision(rig, places["one"], Node("host"), "ours", tmp_path) as guest,
    ):
        assert guest.fate().how == "runs"
        if not doing:
            os.kill(int(running(tmp_path).split()[0]), signal.SIGKILL)
        with RemoteWorker(guest.node, tmp_path, run_id="ours") as worker, pytest.raises(NodeLost):
            worker.run(shell.run, deadline=Deadline.after(60), argv=[PYTHON, "-c", doing], folder="/")
        assert guest.fate().how == how
        assert told in guest.fate().text
        assert ("Kernel panic" in guest.fate().console) == (how == "panicked")
