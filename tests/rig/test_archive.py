"""A machine in a file: what goes in comes out the same, nothing else does, and a hostile file does no harm."""

from __future__ import annotations

import fcntl
import gzip
import io
import os
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dmaproof.errors import UsageError
from dmaproof.pci import address_map, iommu, route, sysfs
from dmaproof.rig.archive import MANIFEST, opened, save
from dmaproof.rig.doctor_saved import examine_saved
from dmaproof.rig.saved import manifest, rig_of
from dmaproof.rig.unpack import is_archive
from tests.pci.machine_tree import MachineTree, gpu_config, port_config

GPU, PORT = "0000:17:00.0", "0000:16:00.0"
INFORMATION = "Model: \t\t NVIDIA L40S\nIRQ:   \t\t 33\nGPU UUID: \t GPU-4d6f6f66-0000-4000-8000-000000000017\n"


@pytest.fixture
def machine(tmp_path: Path) -> MachineTree:
    root = tmp_path / "machine"
    root.mkdir()
    tree = MachineTree(root)
    tree.command_line("root=/dev/sda1 intel_iommu=on")
    tree.port(PORT, config=port_config(acs_control=0x1D))
    resource = "0x00000000f6000000 0x00000000f6ffffff 0x0000000000040200\n"
    folder = tree.function(GPU, under=PORT, config=gpu_config(ats_control=0x8000), resource=resource)
    (folder / "secret").write_text("not ours to take")
    tree.group(7, "DMA-FQ", GPU, reserved="0x00000000fee00000 0x00000000feefffff msi\n")
    tree.iommu("dmar0", GPU)
    (root / "sys/firmware/acpi/tables/DMAR").write_bytes(b"firmware's own")
    (root / "proc/cpuinfo").write_text("processor\t: 0\nvendor_id\t: GenuineIntel\n\nprocessor\t: 1\n")
    (root / "proc/iomem").write_text("00001000-0009ffff : System RAM\n")
    (root / "proc/1").mkdir()
    (root / "proc/1/environ").write_text("TOKEN=1")
    (root / f"proc/driver/nvidia/gpus/{GPU}").mkdir(parents=True)
    (root / f"proc/driver/nvidia/gpus/{GPU}/information").write_text(INFORMATION)
    (root / "dev").mkdir()
    (root / "dev/kmsg").write_text("6,1,100,-;DMAR: IOMMU enabled\n")
    return tree


def test_the_saved_machine_reads_like_the_machine(machine: MachineTree, tmp_path: Path) -> None:
    file = tmp_path / "bench.tar.gz"
    saved = save(machine.root, file, "0")
    assert (saved.functions, saved.left_out) == (2, ())
    assert saved.nbytes == file.stat().st_size
    with opened(file) as root:
        assert sysfs.functions(root) == sysfs.functions(machine.root)
        assert iommu.snapshot(root) == iommu.snapshot(machine.root)
        assert address_map.of_sysfs(root) == address_map.of_sysfs(machine.root)
        assert route.predict(root, GPU, PORT) == route.predict(machine.root, GPU, PORT)
        assert (root / "dev/kmsg").read_bytes() == (machine.root / "dev/kmsg").read_bytes()
        assert (root / "proc/cpuinfo").read_text() == "processor\t: 0\nvendor_id\t: GenuineIntel\n"
        assert (root / "sys/firmware/acpi/tables/DMAR").read_bytes() == b""
        assert (root / "sys/bus/pci/devices" / GPU).is_symlink()
        left = root
    assert not left.exists()


def test_nothing_else_is_taken(machine: MachineTree, tmp_path: Path) -> None:
    save(machine.root, tmp_path / "bench.tar.gz", "0")
    with tarfile.open(tmp_path / "bench.tar.gz") as tar:
        names = tar.getnames()
    assert not [name for name in names if "secret" in name or name.startswith("proc/1")]
    tops = {"sys", "proc", "dev", MANIFEST}
    assert {name.split("/")[0] for name in names} == tops


def test_an_archive_of_an_archive(machine: MachineTree, tmp_path: Path) -> None:
    save(machine.root, tmp_path / "first.tar.gz", "0")
    with opened(tmp_path / "first.tar.gz") as root:
        save(root, tmp_path / "second.tar.gz", "0")
    with opened(tmp_path / "second.tar.gz") as root:
        assert sysfs.functions(root) == sysfs.functions(machine.root)


def test_a_saved_machine_is_a_rig(machine: MachineTree, tmp_path: Path) -> None:
    save(machine.root, tmp_path / "bench.tar.gz", "0")
    with opened(tmp_path / "bench.tar.gz") as root:
        rig, _ = rig_of(root)
    (gpu,) = rig.node["host"].gpus
    assert (rig.id, gpu.bdf, gpu.port, gpu.product) == ("host:saved", GPU, PORT, "NVIDIA L40S")
    assert gpu.uuid == "GPU-4d6f6f66-0000-4000-8000-000000000017"
    assert [(bar.index, bar.address) for bar in gpu.bars] == [(0, 0xF6000000)]
    assert rig.node["host"].iommu.model_dump() == {"family": "vtd", "domain": "translated"}


def test_what_is_missing_is_told(machine: MachineTree, tmp_path: Path) -> None:
    (machine.root / "dev/kmsg").unlink()
    path = machine.root / "sys/bus/pci/devices" / GPU / "config"
    path.write_bytes(path.read_bytes()[:64])
    saved = save(machine.root, tmp_path / "bench.tar.gz", "0")
    assert "kernel log: " in saved.left_out[0]
    assert saved.left_out[1] == "config space beyond 64 bytes of 1 of 2 functions: needs root"
    with opened(tmp_path / "bench.tar.gz") as root:
        assert manifest(root)["left_out"] == list(saved.left_out)
        assert any("needs root" in note for note in rig_of(root).notes)


def test_a_fifo_and_a_link_out_are_not_followed(machine: MachineTree, tmp_path: Path) -> None:
    folder = (machine.root / "sys/bus/pci/devices" / GPU).resolve()
    os.mkfifo(folder / "revision")
    (tmp_path / "outside").write_text("not ours")
    (folder / "power_state").symlink_to(tmp_path / "outside")
    (folder / "driver").symlink_to(tmp_path)
    save(machine.root, tmp_path / "bench.tar.gz", "0")
    with tarfile.open(tmp_path / "bench.tar.gz") as tar:
        names = [name.rpartition("/")[2] for name in tar.getnames()]
    assert not {"revision", "power_state", "driver"} & set(names)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("cannot mount a tmpfs here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_leaves_the_old_archive(machine: MachineTree, tiny_disk: Path) -> None:
    file = tiny_disk / "bench.tar.gz"
    save(machine.root, file, "0")
    before = file.read_bytes()
    (machine.root / "dev/kmsg").write_bytes(os.urandom(1 << 18))
    with pytest.raises(UsageError, match=r"cannot write .*bench\.tar\.gz: No space left on device"):
        save(machine.root, file, "0")
    assert [path.name for path in tiny_disk.iterdir()] == ["bench.tar.gz"]
    assert file.read_bytes() == before


def test_no_folder_to_write_into(machine: MachineTree, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot write .*: No such file or directory"):
        save(machine.root, tmp_path / "nowhere/bench.tar.gz", "0")


def test_what_is_no_file_is_not_replaced(machine: MachineTree, tmp_path: Path) -> None:
    fifo, folder = tmp_path / "fifo", tmp_path / "folder"
    os.mkfifo(fifo)
    folder.mkdir()
    (tmp_path / "to-fifo").symlink_to(fifo)
    for path in (fifo, folder, tmp_path / "to-fifo"):
        with pytest.raises(UsageError, match=f"cannot write .*{path.name}: it is there and no file"):
            save(machine.root, path, "0")
    assert fifo.is_fifo()
    assert (tmp_path / "to-fifo").is_symlink()


def test_a_link_is_followed(machine: MachineTree, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    link = tmp_path / "bench.tar.gz"
    link.symlink_to("kept/real.tar.gz")
    save(machine.root, link, "0")
    assert link.is_symlink()
    with opened(tmp_path / "kept/real.tar.gz") as root:
        assert (root / "sys").is_dir()


def crafted(path: Path, *members: tarfile.TarInfo, content: bytes = b"x") -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            member.size = len(content) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    one = tarfile.TarInfo(name)
    one.type, one.linkname = kind, target
    return one


MARK = member(MANIFEST)


@pytest.mark.parametrize(
    "members",
    [
        [member("../evil")],
        [member("/tmp/evil-of-dmaproof")],
        [member("sys/../../evil")],
        [member("sys/evil", tarfile.SYMTYPE, "/etc")],
        [member("sys/evil", tarfile.SYMTYPE, "../../..")],
        [member("sys/evil", tarfile.LNKTYPE, "/etc/passwd")],
        [member("dev/sda", tarfile.BLKTYPE)],
        [member("dev/zero", tarfile.CHRTYPE)],
        [member("dev/fifo", tarfile.FIFOTYPE)],
        [member("sys", tarfile.SYMTYPE, "proc"), member("proc/a"), member("sys/link", tarfile.SYMTYPE, "a")],
        [member("proc/link", tarfile.SYMTYPE, "a"), member("proc/link", tarfile.SYMTYPE, "b")],
    ],
    ids=lambda members: members[-1].name + ":" + members[-1].linkname,
)
def test_a_hostile_archive_is_refused(members: list[tarfile.TarInfo], tmp_path: Path) -> None:
    file = crafted(tmp_path / "evil.tar.gz", MARK, *members)
    with pytest.raises(UsageError, match=r"evil\.tar\.gz"), opened(file):
        pass
    assert not Path("/tmp/evil-of-dmaproof").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.tar.gz"]


def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    """A few hundred kilobytes that say they are a header of 200 MiB."""
    header = tarfile.TarInfo("sys/a")
    header.type, header.size = tarfile.XHDTYPE, 200 << 20
    with gzip.open(tmp_path / "bomb.tar.gz", "wb", compresslevel=9) as file:
        file.write(header.tobuf())
        for _ in range(200):
            file.write(bytes(1 << 20))
    with pytest.raises(UsageError, match="too large"), opened(tmp_path / "bomb.tar.gz"):
        pass


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b", b"6,1,2,-;a log", gzip.compress(b"6,1,2,-;a log", mtime=0)])
def test_no_archive_at_all(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "log.gz"
    file.write_bytes(content)
    assert not is_archive(file)
    with pytest.raises(UsageError, match=r"log\.gz"), opened(file):
        pass


def test_another_programs_archive_is_none_of_a_machine(tmp_path: Path) -> None:
    file = crafted(tmp_path / "other.tar.gz", member("README"))
    assert is_archive(file)
    with pytest.raises(UsageError, match="no archive of a machine"), opened(file):
        pass


def test_a_folder_that_is_no_machine(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no sys/bus/pci/devices"), opened(tmp_path):
        pass


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.data())
def test_damaged_anywhere(machine: MachineTree, tmp_path: Path, data: st.DataObject) -> None:
    """Any bytes changed or cut off inside the tar: it opens, or one clear error says that it does not."""
    file = tmp_path / "bench.tar.gz"
    if not file.exists():
        save(machine.root, file, "0")
    content = bytearray(gzip.decompress(file.read_bytes()))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=8)):
        content[place] = data.draw(st.integers(0, 255))
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(gzip.compress(content[: data.draw(st.integers(0, len(content)))]))
    said = "broken.tar.gz"
    try:
        with opened(broken) as root:
            sysfs.functions(root)
    except UsageError as error:
        said = str(error)
    assert "broken.tar.gz" in said


def test_what_a_killed_one_left_is_swept_and_what_is_in_use_is_not(machine: MachineTree, tmp_path: Path) -> None:
    save(machine.root, tmp_path / "bench.tar.gz", "0")
    left, used = (Path(tempfile.mkdtemp(prefix="dmaproof-archive-")) for _ in range(2))
    hour_ago = time.time() - 3600
    for folder in (left, used):
        os.utime(folder, (hour_ago, hour_ago))
    fd = os.open(used, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with opened(tmp_path / "bench.tar.gz"):
            assert not left.exists()
            assert used.exists()
    finally:
        os.close(fd)
        used.rmdir()


@pytest.mark.parametrize(
    "told",
    [b"[" * 200_000, b"[]", b"\xff", b'{"left_out": 5}', b'{"left_out": "words"}', b'{"left_out": [5, null]}',
     b'{"left_out": [], "time": [], "made_by": {}}'],
    ids=lambda told: repr(told[:20]),
)  # fmt: skip
def test_an_archive_that_tells_nonsense_of_itself(told: bytes, tmp_path: Path) -> None:
    file = crafted(tmp_path / "odd.tar.gz", MARK, content=told)
    with opened(file) as root:
        assert rig_of(root).rig.id == "host:saved"
        assert examine_saved(root)


def test_two_things_of_one_name(tmp_path: Path) -> None:
    file = crafted(tmp_path / "odd.tar.gz", MARK, member("sys"), member("sys/bus"))
    with pytest.raises(UsageError, match=r"odd\.tar\.gz is no archive of a machine: two things"), opened(file):
        pass


def test_no_room_to_unpack(
    machine: MachineTree, tiny_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive is not to blame, and the message does not say so."""
    (machine.root / "dev/kmsg").write_bytes(bytes(1 << 18))
    save(machine.root, tmp_path / "bench.tar.gz", "0")
    monkeypatch.setattr(tempfile, "tempdir", str(tiny_disk))
    said = r"cannot unpack .*bench\.tar\.gz into .*disk: No space left on device; set TMPDIR"
    with pytest.raises(UsageError, match=said), opened(tmp_path / "bench.tar.gz"):
        pass
    assert list(tiny_disk.iterdir()) == []


def test_a_kernel_log_that_is_a_folder(machine: MachineTree, tmp_path: Path) -> None:
    (machine.root / "dev/kmsg").unlink()
    (machine.root / "dev/kmsg").mkdir()
    saved = save(machine.root, tmp_path / "bench.tar.gz", "0")
    assert any("kernel log" in one and "Is a directory" in one for one in saved.left_out)
