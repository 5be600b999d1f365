"""A guest that boots from a disk image by its own boot loader, on this very system: what QEMU is told, what is refused,
and one that is really booted.
"""

from __future__ import annotations

import hashlib
import re
import select
import signal
import socket
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from dmaproof.errors import DmaproofError, NodeError, NodeLost, UsageError
from dmaproof.guest import guests, hosting, kernel, shell
from dmaproof.guest.disk import forwarded
from dmaproof.guest.foretell import foretell
from dmaproof.guest.place import machine, prepared
from dmaproof.node.deadline import Deadline
from dmaproof.node.node import Node
from dmaproof.node.remote import RemoteWorker
from dmaproof.rig import load
from dmaproof.rig.model import Rig
from tests.support import disk_image
from tests.support.harness import eventually, program
from tests.support.lab import supplied

RIG = """
name = "mine"
kind = "host"
[node.host.gpu.gpu0]
bdf = "17:00.0"
[node.one]
role = "guest"
qemu = {{ cpus = 1, memory_nbytes = 0x40000000 }}
[node.one.guest]
on = "host"
fill = "image"
disk = {{ path = "{path}", format = "raw", key = "{key}" }}
"""
GPU = """
[node.one.gpu.gpu0]
bdf = "01:00.0"
port = "00:10.0"
"""
PYTHON = "/usr/bin/python3"
WRITES = (
    "import os; disk = os.open('/dev/vda', os.O_RDWR); print(os.pwrite(disk, bytes(1 << 20), 1 << 20)); os.fsync(disk)"
)
REACHES = "import socket; socket.create_connection(('10.0.2.2', {port}), 3)"
KEEPS = """
    from pathlib import Path
    from dmaproof.guest import guests
    from dmaproof.guest.place import prepared
    from dmaproof.node.node import Node
    from dmaproof.rig import load
    rig, folder = load.parse({rig!r}, "mine.toml"), Path({folder!r})
    with prepared(rig, ["one"], folder / "work") as places:
        with guests.provision(rig, places["one"], Node("host"), "ours", folder):
            print("up", flush=True)
"""
MINUTE_S, SOON_S = 60.0, 20.0
KILLS = f"""
import os
from pathlib import Path
parents = {{}}
for path in Path('/proc').glob('[0-9]*'):
    if b'dmaproof.guest.started' in (path / 'cmdline').read_bytes():
        parents[int(path.name)] = int((path / 'stat').read_text().rpartition(')')[2].split()[1])
(agent,) = [one for one, parent in parents.items() if parents.get(parent) == 1]
os.kill(agent, {int(signal.SIGKILL)})
import time
time.sleep({MINUTE_S:g})
"""
"""The agent is the child of whoever keeps it, who is an orphan."""


def rig_of(path: Path, key: Path, more: str = "", scale: float = 5) -> Rig:
    text = RIG.format(path=path, key=key) + more
    return load.parse(f"deadline.scale = {scale}\n{text}", "mine.toml")


def about(folder: Path) -> str:
    """The processes that have to do with ``folder``."""
    return subprocess.run(["pgrep", "-af", str(folder)], capture_output=True, text=True, check=False).stdout


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def blank(tmp_path: Path) -> tuple[Path, Path]:
    """A disk with nothing on it, in a folder with a comma, and a key."""
    supplied()
    folder = tmp_path / "a,b"
    folder.mkdir()
    with (folder / "blank.img").open("wb") as file:
        file.truncate(1 << 20)
    (folder / "key").write_bytes(b"")
    return folder / "blank.img", folder / "key"


def test_qemu_is_told_of_disk_network_and_functions(blank: tuple[Path, Path], tmp_path: Path) -> None:
    rig = rig_of(*blank, GPU)
    with prepared(rig, ["one"], tmp_path / "work") as places:
        made = machine(rig, places["one"], Node("host"), accelerated=True)
    said = list(pairwise(made.command))
    file = str(blank[0]).replace(",", ",,")
    assert ("-drive", f"if=none,id=disk,file={file},format=raw,snapshot=on") in said
    assert ("-device", "virtio-blk-pci,drive=disk,bus=pcie.0,bootindex=1") in said
    assert ("-netdev", "user,id=net,restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:0-:22") in said
    assert (
        "-device",
        "vfio-pci,host=0000:17:00.0,id=endpoint-gpu0,bus=port-00-10,addr=00",
    ) in said
    assert not {"-kernel", "-initrd", "-append"} & {*made.command}, "the boot loader's are its own"
    assert made.functions == ("0000:17:00.0",)


def test_a_kernel_of_ones_own_goes_with_the_disk(blank: tuple[Path, Path], tmp_path: Path) -> None:
    """QEMU, which starts it by a ROM that boots first of all, takes both."""
    own = ["-kernel", str(kernel.choose(kernel.OWN, "x86_64").path), "-append", "root=/dev/vda1"]
    rig = rig_of(*blank, f"arguments = {own}")
    with prepared(rig, ["one"], tmp_path / "work") as places:
        made = machine(rig, places["one"], Node("host"), accelerated=False)
    asked = '{"execute": "qmp_capabilities"} {"execute": "quit"}'
    words = [*made.command, "-cpu", made.cpu, "-S", "-qmp", "stdio"]
    done = subprocess.run(words, input=asked, capture_output=True, text=True, timeout=MINUTE_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_lab_host_is_told_the_same_but_to_be_rung_by_io_ports(blank: tuple[Path, Path], tmp_path: Path) -> None:
    rig, far = rig_of(*blank), Node("far", agent=tmp_path)
    with prepared(rig, ["one"], tmp_path / "work") as places:
        here = machine(rig, places["one"], Node("host"), accelerated=True)
        there = machine(rig, places["one"], far, accelerated=True)
        emulated = machine(rig, places["one"], far, accelerated=False)
    assert here.command == emulated.command
    rung = [word for word in there.command if word.endswith(",modern-pio-notify=on")]
    assert [word.partition(",")[0] for word in rung] == ["virtio-blk-pci", "virtio-net-pci"]
    assert [word.removesuffix(",modern-pio-notify=on") for word in there.command] == [*here.command]


@pytest.mark.parametrize("key", ["path", "key"])
def test_a_file_that_a_lab_host_does_not_see_is_named_and_nothing_is_changed(
    blank: tuple[Path, Path], tmp_path: Path, key: str
) -> None:
    rig, missing = rig_of(*blank, GPU), str(blank[key == "key"])
    with prepared(rig, ["one"], tmp_path / "work") as places:
        made = machine(rig, places["one"], Node("far", agent=tmp_path), accelerated=False)
    Path(missing).unlink()
    told = (
        f"guest.disk.{key} = {missing!r} cannot be read: No such file or directory on the lab host: it sees the files"
    )
    with pytest.raises(DmaproofError, match=f"^{re.escape(told)}"):
        hosting.start(made)
    assert foretell(made).refusals[0].startswith(told)


def test_on_a_lab_host_without_a_qemu_no_guest_is_made(blank: tuple[Path, Path], tmp_path: Path) -> None:
    text = 'name = "far"\nkind = "lab"\nnode.host.qemu.arch = "aarch64"\n' + RIG.partition("[node.one]\n")[2].format(
        path=blank[0], key=blank[1]
    )
    rig = load.parse(text.replace('role = "guest"', '[node.one]\nrole = "guest"'), "far.toml")
    told = r"^node\.one\.guest\.on = 'host': a lab host of aarch64 boots from an initramfs here, and no QEMU is in it"
    with pytest.raises(UsageError, match=told), prepared(rig, ["one"], tmp_path / "work"):
        pass


@pytest.mark.parametrize("key", ["path", "key"])
def test_a_file_that_is_not_there_is_named_before_anything_starts(
    blank: tuple[Path, Path], tmp_path: Path, key: str
) -> None:
    path, private = blank
    (path if key == "path" else private).unlink()
    told = rf"^node\.one\.guest\.disk\.{key} = '.*a,b/.*' cannot be read: No such file or directory$"
    with pytest.raises(UsageError, match=told), prepared(rig_of(path, private), ["one"], tmp_path / "work"):
        pass
    assert not (tmp_path / "work").exists()


def test_the_port_is_what_qemu_says_it_is() -> None:
    head = "Hub -1 (net):\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\n"
    assert (
        forwarded(f"{head}  TCP[HOST_FORWARD]  12       127.0.0.1 36089       10.0.2.15    22     0     0\n") == 36089
    )
    with pytest.raises(NodeError, match="QEMU passes no port on to the guest"):
        forwarded(head)


def test_a_disk_that_does_not_boot_says_so_and_leaves_nothing(blank: tuple[Path, Path], tmp_path: Path) -> None:
    rig, kept = rig_of(*blank, scale=0.05), tmp_path / "kept"
    kept.mkdir()
    told = (
        r"no agent could be started within .* s as root over SSH \(127\.0\.0\.1 port \d+, which .* port 22\): "
        rf".*the console says: .*No bootable device.*; see {kept / 'one'}\.\*$"
    )
    with (
        prepared(rig, ["one"], tmp_path / "work") as places,
        pytest.raises(NodeError, match=told),
        guests.provision(rig, places["one"], Node("host"), "ours", kept),
    ):
        pass
    assert "No bootable device" in (kept / "one.console.txt").read_text()
    assert about(tmp_path) == ""


def test_of_a_process_that_is_killed_while_it_waits_for_ssh_nothing_stays(
    blank: tuple[Path, Path], tmp_path: Path
) -> None:
    text = "deadline.scale = 5\n" + RIG.format(path=blank[0], key=blank[1])
    with program(KEEPS.format(rig=text, folder=str(tmp_path))) as process:
        assert eventually(lambda: "ssh -F none" in about(tmp_path), MINUTE_S), "no ssh is started"
        assert "snapshot=on" in about(tmp_path)
        process.kill()
        process.wait(10)
    assert eventually(lambda: not (tmp_path / "work").exists(), SOON_S)
    assert eventually(lambda: about(tmp_path) == "", SOON_S), about(tmp_path)


def test_a_guest_is_filled_from_a_disk_image_which_stays_as_it_is(tmp_path: Path) -> None:
    """Boots once, for all that there is to be seen of it, and ends as its agent is killed."""
    (tmp_path / "image").mkdir()
    image = disk_image.made(tmp_path / "image", words="dmaproof.was.here")
    rig, kept, before = rig_of(image.path, image.key), tmp_path / "kept", digest(image.path)
    kept.mkdir()
    with prepared(rig, ["one"], tmp_path / "work") as places:
        with (
            guests.provision(rig, places["one"], Node("host"), "ours", kept) as guest,
            RemoteWorker(guest.node, kept, run_id="ours") as worker,
        ):
            assert guest.node.notes[0].startswith("one: disk.img on QEMU ")
            assert image.release in (guest.node.root / "proc/version").read_text()
            log = (guest.node.root / "dev/kmsg").read_text(errors="replace")
            assert "Linux version" in log, "from the first record on"
            assert "dmaproof.was.here" in log
            assert said(worker, WRITES) == (0, "1048576\n")
            with socket.create_server(("127.0.0.1", 0)) as listener:
                assert said(worker, REACHES.format(port=listener.getsockname()[1]))[0], "this system is out of reach"
                assert not select.select([listener], [], [], 0)[0]
            assert "sysrq: HELP" not in log
            assert said(worker, "open('/proc/sysrq-trigger', 'w').write('h')")[0] == 0
            path = guest.node.root / "dev/kmsg"
            assert eventually(lambda: "sysrq: HELP" in path.read_text(errors="replace"), SOON_S), "it is passed on"
            assert guest.fate().how == "runs"
            with pytest.raises(NodeLost):
                worker.run(shell.run, deadline=Deadline.after(MINUTE_S), argv=[PYTHON, "-c", KILLS], folder="/")
            assert guest.fate().how == "was shut down"
            assert "the agent ended (status -9)" in guest.fate().text
        assert digest(image.path) == before
        assert list((tmp_path / "work").glob("*")) == []
    assert "the image is up" in (kept / "one.console.txt").read_text()
    assert about(tmp_path) == ""


def said(worker: RemoteWorker, script: str) -> tuple[int, str]:
    argv = [PYTHON, "-c", script]
    ended = worker.run(shell.run, deadline=Deadline.after(5 * MINUTE_S), argv=argv, folder="/")
    return ended.status, ended.output
