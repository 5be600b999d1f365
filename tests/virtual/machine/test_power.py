"""Switching on and off, whatever becomes of who did it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dmaproof.errors import UsageError
from dmaproof.rig.load import load
from dmaproof.virtual.power import provision

HOLDER = """
import sys, time
from pathlib import Path
from dmaproof.rig.load import load
from dmaproof.virtual.power import provision
with provision(load("virtual:gh200"), Path(sys.argv[1]), ()) as nodes:
    print("up", flush=True)
    time.sleep(60)
"""


def until(condition, timeout_s: float = 10.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_leaving_the_context_leaves_nothing(tmp_path: Path, machine_pids) -> None:
    with provision(load("virtual:pcie-pair"), tmp_path, ()) as nodes:
        root = nodes["host"].root
        assert machine_pids(root)
        assert (root / "run/machine.sock").is_socket()
        assert Path(nodes["host"].env["LD_LIBRARY_PATH"].split(":")[0], "libcuda.so.1").is_file()
    assert not root.exists()
    assert machine_pids(root) == []


def test_a_killed_parent_leaves_no_process_and_no_socket(tmp_path: Path, machine_pids) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "up\n"
            (machine,) = machine_pids(tmp_path / "host")
            assert os.getsid(machine) == machine  # out of reach of the terminal's Ctrl-C
        finally:
            holder.send_signal(signal.SIGKILL)
    assert until(lambda: machine_pids(tmp_path / "host") == [])
    assert until(lambda: not (tmp_path / "host").exists())


def test_a_root_that_is_too_long_for_a_socket_address_is_reached_all_the_same(tmp_path: Path, boot, dial) -> None:
    node = boot("virtual:gh200", workdir=tmp_path / ("long" * 40))
    assert len(os.fsencode(node.root / "run/machine.sock")) > 107
    assert (node.root / "run/machine.sock").is_socket()
    assert dial(node).state("0009:01:00.0") == "present"


def test_many_processes_are_served_at_once(boot, dial) -> None:
    node = boot("virtual:hgx-h100")
    clients = [dial(node, pid=number) for number in range(40)]
    assert {client.dma("0000:1b:00.0", "0000:43:00.0") for client in clients} == {"lands"}


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UsageError, match=r"cannot make .*/file/host for virtual machine host: Not a directory"),
        provision(load("virtual:gh200"), tmp_path / "file", ()),
    ):
        pass


def test_numbers_follow_the_bus_and_not_the_rig_file(boot) -> None:
    """As the kernel and NVML enumerate: by address."""
    rig = load("virtual:pcie-pair")
    node = rig.nodes[0]
    turned = node.model_copy(update={"gpu": dict(reversed(node.gpu.items()))})
    root = boot(rig.model_copy(update={"node": {"host": turned}})).root
    assert "Device Minor: \t 0\n" in (root / "proc/driver/nvidia/gpus/0000:04:00.0/information").read_text()
