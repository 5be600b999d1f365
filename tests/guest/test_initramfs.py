from __future__ import annotations

import gzip
import lzma
import sys
from pathlib import Path

import pytest

from dmaproof.errors import UsageError
from dmaproof.guest import initramfs, userland
from dmaproof.guest.bytecode import Compiler
from dmaproof.guest.cpio import packed
from dmaproof.guest.kernel import Kernel
from dmaproof.guest.userland import Userland
from tests.guest.test_cpio import read

HERE = Compiler((sys.executable,), f"{sys.version_info[0]}.{sys.version_info[1]}")
PLACE = "usr/lib/python3/dist-packages"
DEP = """\
kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/drivers/vfio/pci/vfio-pci-core.ko.xz kernel/drivers/vfio/vfio.ko.gz
kernel/drivers/vfio/pci/vfio-pci-core.ko.xz: kernel/drivers/vfio/vfio.ko.gz
kernel/drivers/vfio/vfio.ko.gz:
kernel/drivers/vfio/vfio_iommu_type1.ko.xz: kernel/drivers/vfio/vfio.ko.gz
kernel/drivers/char/virtio_console.ko:
kernel/drivers/nvme/host/nvme.ko.zst: kernel/drivers/nvme/host/nvme-core.ko.zst
kernel/drivers/nvme/host/nvme-core.ko.zst:
kernel/drivers/net/e1000.ko.xz:
"""


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    modules = tmp_path / "modules"
    for line in DEP.splitlines():
        path = modules / line.partition(":")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        plain = b"ELF of " + path.name.partition(".")[0].encode()
        path.write_bytes({".xz": lzma.compress, ".gz": gzip.compress}.get(path.suffix, bytes)(plain))
    (modules / "modules.dep").write_text(DEP)
    return Kernel(tmp_path / "Image", modules, "7.2.13-test", None)


def test_modules_come_with_all_that_they_need_and_nothing_else(kernel: Kernel) -> None:
    found = read(packed(initramfs.start(kernel)))
    folder = f"usr/lib/modules/{kernel.release}"
    dep = found[f"{folder}/modules.dep"].content.decode().splitlines()
    vfio = "kernel/drivers/vfio"
    assert f"{vfio}/vfio_iommu_type1.ko: {vfio}/vfio.ko" in dep
    assert f"{vfio}/pci/vfio-pci.ko: {vfio}/vfio_iommu_type1.ko {vfio}/pci/vfio-pci-core.ko {vfio}/vfio.ko" in dep
    named = {line.partition(":")[0] for line in dep}
    packed_modules = {name.removeprefix(f"{folder}/"): one for name, one in found.items() if name.endswith(".ko")}
    assert named == set(packed_modules)
    assert packed_modules["kernel/drivers/vfio/vfio.ko"].content == b"ELF of vfio"
    assert packed_modules["kernel/drivers/vfio/pci/vfio-pci-core.ko"].content == b"ELF of vfio-pci-core"
    assert not any("e1000" in name or "nvme" in name for name in found)  # .zst is not for this Python to unpack
    assert found["etc/dmaproof/modules"].content.split() == [b"virtio_console"]


def test_a_kernel_with_all_built_in_has_none(tmp_path: Path) -> None:
    found = read(packed(initramfs.start(Kernel(tmp_path / "Image", None, "7.2.13-test", None))))
    assert found["etc/dmaproof/modules"].content == b""
    assert found["init"].mode & 0o111


def test_the_project_comes_with_its_bytecode_and_its_data(tmp_path: Path, cache: Path) -> None:
    package = tmp_path / "dmaproof"
    (package / "rig/__pycache__").mkdir(parents=True)
    for name in ("__init__.py", "rig/__init__.py", "rig/model.py", "rig/lab.toml"):
        (package / name).write_text(f"# {name}\n")
    (package / "rig/__pycache__/model.cpython-311.pyc").write_bytes(b"of this system")
    found = read(packed(initramfs.project(package, HERE)))
    assert found[f"{PLACE}/dmaproof/rig/lab.toml"].content == b"# rig/lab.toml\n"
    bytecode = {name for name in found if name.endswith(".pyc")}
    assert bytecode == {
        f"{PLACE}/dmaproof/__pycache__/__init__.{HERE.tag}.pyc",
        f"{PLACE}/dmaproof/rig/__pycache__/__init__.{HERE.tag}.pyc",
        f"{PLACE}/dmaproof/rig/__pycache__/model.{HERE.tag}.pyc",
    }
    assert b"of this system" not in {one.content for one in found.values()}


def test_the_userland_comes_first_and_the_same_source_gives_the_same_bytes(
    tmp_path: Path, cache: Path, kernel: Kernel
) -> None:
    first = tmp_path / "userland.cpio"
    first.write_bytes(packed([]))
    for name in ("one", "two"):
        initramfs.write(tmp_path / name, Userland(first, HERE), kernel)
    written = (tmp_path / "one").read_bytes()
    assert written == (tmp_path / "two").read_bytes()
    assert written.startswith(first.read_bytes())
    ours = read(written.removeprefix(first.read_bytes()))
    assert {"init", f"{PLACE}/dmaproof/guest/agent.py", f"{PLACE}/dmaproof/endpoint/edu.py"} <= set(ours)


def test_a_tree_of_packages_becomes_a_root(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/python3.14").write_bytes(b"ELF")
    (tmp_path / "usr/bin/python3.14").chmod(0o755)
    (tmp_path / "usr/bin/python3").symlink_to("python3.14")
    (tmp_path / "lib64").mkdir()
    found = read(packed(userland.entries(tmp_path)))
    assert found["usr/bin/python3"].content == b"python3.14"
    assert found["usr/bin/python3.14"].mode & 0o111
    assert found["lib"].content == b"usr/lib"
    assert found["lib64"].content == b""
    assert found["usr/sbin/modprobe"].content == b"/usr/bin/busybox"
    assert found["dev/console"].device == (5, 1)
    assert {"proc", "sys", "run", "tmp", "root"} <= set(found)


def test_without_a_userland_the_command_that_supplies_it_is_named(cache: Path) -> None:
    with pytest.raises(UsageError, match=r"run `dmaproof lab python --arch aarch64`"):
        userland.find("aarch64")
