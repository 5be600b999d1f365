"""A guest on this very system, and what it hangs on killed by SIGKILL: nothing stays, and it is said what happened."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from pathlib import Path

import pytest

from dmaproof.errors import NodeLost
from dmaproof.guest import guests, shell
from dmaproof.guest.place import prepared
from dmaproof.node.deadline import Deadline
from dmaproof.node.node import Node
from dmaproof.node.remote import RemoteWorker
from dmaproof.rig import load
from tests.support.harness import eventually, program
from tests.support.lab import supplied

RIG = """
name = "mine"
kind = "lab"
node.host.qemu = {}
node.one.role = "guest"
node.one.guest.on = "host"
node.one.qemu = { cpus = 1, memory_nbytes = 536870912 }
"""
KEEPS = """
    import time
    from pathlib import Path
    from dmaproof.guest import guests
    from dmaproof.guest.place import prepared
    from dmaproof.node.node import Node
    from dmaproof.rig import load
    rig, folder = load.parse({rig!r}, "mine.toml"), Path({folder!r})
    with prepared(rig, ["one"], folder / "work") as places:
        with guests.provision(rig, places["one"], Node("host"), "ours", folder):
            print("up", flush=True)
            time.sleep(600)
"""
UP_S, GONE_S = 120.0, 20.0


@pytest.fixture(autouse=True)
def lab() -> None:
    supplied(python=True)


def about(folder: Path) -> str:
    """The processes that have to do with ``folder``."""
    return subprocess.run(["pgrep", "-af", str(folder)], capture_output=True, text=True, check=False).stdout


def test_with_the_worker_that_keeps_it_a_guest_is_gone_and_that_is_said(tmp_path: Path) -> None:
    rig = load.parse(RIG, "mine.toml")
    with prepared(rig, ["one"], tmp_path / "work") as places:
        with guests.provision(rig, places["one"], Node("host"), "ours", tmp_path) as guest:
            (qemu,) = [int(line.split()[0]) for line in about(tmp_path).splitlines() if "-initrd" in line]
            worker = int(Path(f"/proc/{qemu}/stat").read_text().rpartition(")")[2].split()[1])
            os.kill(worker, signal.SIGKILL)
            with RemoteWorker(guest.node, tmp_path, run_id="ours") as inside, pytest.raises(NodeLost):
                inside.run(shell.run, deadline=Deadline.after(5), argv=["/usr/bin/python3", "-V"], folder="/")
            assert guest.fate().how == "was killed"
            assert guest.fate().text == "QEMU of one was killed with the process that kept it"
        assert [*(tmp_path / "work").iterdir()] == [places["one"].initrd]
    assert not (tmp_path / "work").exists()
    assert about(tmp_path) == ""


def test_of_a_process_that_is_killed_with_its_guest_up_nothing_stays(tmp_path: Path) -> None:
    with program(KEEPS.format(rig=RIG, folder=str(tmp_path))) as process:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], UP_S)[0], "the guest does not come up"
        assert process.stdout.readline() == b"up\n"
        assert "-initrd" in about(tmp_path)
        process.kill()
        process.wait(10)
    assert eventually(lambda: not (tmp_path / "work").exists(), GONE_S)
    assert eventually(lambda: about(tmp_path) == "", GONE_S), about(tmp_path)
