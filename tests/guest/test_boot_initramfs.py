"""An arm64 machine, where its parts are in the cache: the kernel unpacks what was packed, and does the lab's work."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmaproof.endpoint.probe import Answer, probe
from dmaproof.guest import boot_initramfs, kernel, lab, userland
from dmaproof.guest.bytecode import Compiler
from dmaproof.guest.cpio import packed
from dmaproof.guest.folder import CONSOLE
from dmaproof.guest.kernel import Kernel
from dmaproof.guest.program import Program
from dmaproof.guest.userland import Userland
from dmaproof.node.deadline import Deadline
from dmaproof.node.node import Node
from dmaproof.node.remote import RemoteWorker, hang_up
from dmaproof.rig.load import load
from tests.support.lab import supplied

RIG = "lab:smmuv3"
FIRST = "0000:01:00.0"


@pytest.fixture
def parts() -> None:
    supplied("aarch64", kernel.STOCK, python=True)


@pytest.fixture
def booted(parts: None, tmp_path: Path) -> Iterator[Node]:
    with lab.provision(load(RIG), tmp_path / "nodes") as nodes:
        yield nodes["host"]
    hang_up()


def test_the_machine_is_the_rig_and_does_its_work(booted: Node, tmp_path: Path) -> None:
    rig = load(RIG)
    functions = {path.name for path in (booted.root / "sys/bus/pci/devices").iterdir()}
    assert {endpoint.bdf for endpoint in rig.node["host"].endpoints} <= functions
    assert {endpoint.port for endpoint in rig.node["host"].endpoints} <= functions
    assert (booted.root / f"sys/bus/pci/devices/{FIRST}/iommu_group").exists()
    log = (booted.root / "dev/kmsg").read_text()
    assert "Run /init as init process" in log
    assert "arm-smmu-v3" in log
    with RemoteWorker(booted, tmp_path / "work", run_id="test") as worker:
        answer = worker.run(probe, deadline=Deadline.after(120), bdf=FIRST, kind="edu")
    assert isinstance(answer, Answer)
    assert answer.bdf == FIRST


def test_nothing_is_left_of_it(parts: None, tmp_path: Path) -> None:
    with lab.provision(load(RIG), tmp_path / "nodes") as nodes:
        folder = nodes["host"].root.parent
        assert (folder / "initrd").exists()
        assert (folder / CONSOLE).exists()
    assert not folder.exists()
    said = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, timeout=20, check=True).stdout
    assert str(folder) not in said


@pytest.fixture
def made(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Userland:
    """A userland with next to nothing in it."""
    (tmp_path / "userland.cpio").write_bytes(packed([]))
    found = Userland(tmp_path / "userland.cpio", Compiler((sys.executable,), "3.0"))
    monkeypatch.setattr(userland, "find", lambda _arch: found)
    return found


@pytest.mark.parametrize("accelerated", [True, False])
def test_the_command_names_what_is_there(made: Userland, tmp_path: Path, accelerated: bool) -> None:
    node = load(RIG).node["host"].model_copy(update={"parameters": ("quiet",)})
    image = Kernel(tmp_path / "Image", None, "7.2.13-test", None)
    words = boot_initramfs.command(node, image, Program(("qemu",), "11.1.3"), tmp_path, accelerated)
    assert words[words.index("-kernel") + 1] == str(image.path)
    assert (tmp_path / words[words.index("-initrd") + 1]).read_bytes().startswith(made.archive.read_bytes())
    assert words[words.index("-serial") + 1] == f"file:{CONSOLE}"
    parameters = words[words.index("-append") + 1].split()
    assert {"console=ttyAMA0", "panic=-1", "iommu.passthrough=0", "quiet"} <= set(parameters)
    assert ("mitigations=off" in parameters) == (not accelerated)
    assert not [word for word in parameters if re.match("r?d?init=", word)]


def test_whose_root_it_is() -> None:
    assert boot_initramfs.needed("aarch64")
    assert boot_initramfs.needed("x86_64") == (platform.machine() != "x86_64")
