"""A folder stands in for sysfs, filled as the kernel fills it: a port is there first, and has a name later."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from dmaproof.errors import NodeError
from dmaproof.guest import port
from dmaproof.guest.serve import path_here

PORTS = "sys/class/virtio-ports"


def name(root: Path, device: str, name: str) -> None:
    folder = root / PORTS / device
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{name}\n")


def test_ports_are_known_by_name_and_others_ports_are_left_alone(tmp_path: Path) -> None:
    name(tmp_path, "vport1p1", "dmaproof.0")
    name(tmp_path, "vport1p2", port.CONTROL)
    name(tmp_path, "vport2p1", "org.qemu.guest_agent.0")
    assert port.names(tmp_path) == {"dmaproof.0": tmp_path / "dev/vport1p1", port.CONTROL: tmp_path / "dev/vport1p2"}


def test_ports_without_a_name_yet_are_waited_for(tmp_path: Path) -> None:
    for device in ("vport1p1", "vport1p2"):
        (tmp_path / PORTS / device).mkdir(parents=True)

    def later() -> None:
        time.sleep(0.05)
        name(tmp_path, "vport1p1", "dmaproof.0")
        time.sleep(0.05)
        name(tmp_path, "vport1p2", port.CONTROL)

    kernel = threading.Thread(target=later)
    kernel.start()
    found = port.names(tmp_path)
    kernel.join(10)
    assert set(found) == {"dmaproof.0", port.CONTROL}


def test_waiting_has_an_end(tmp_path: Path) -> None:
    name(tmp_path, "vport1p1", "dmaproof.0")
    with pytest.raises(NodeError, match=r"no port dmaproof.control in .*virtio-ports after 0.05 s"):
        port.names(tmp_path, patience_s=0.05)


def test_the_harness_path_is_taken_as_far_as_it_is_here(tmp_path: Path) -> None:
    here, gone = str(tmp_path), str(tmp_path / "gone")
    path = path_here(["", gone, here, here])
    assert path[0] == here
    assert gone not in path
    assert "" not in path
    assert path.count(here) == 1
    assert any((Path(folder) / "dmaproof").is_dir() for folder in path)  # what this process is made of stays
