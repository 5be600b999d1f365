"""A disk image with boot loader, stock kernel, SSH server and Python, made by an ordinary user of packages that are
unpacked and not installed: what a guest is filled from.

The disk is one FAT file system, from which SYSLINUX boots kernel and root: all that is on it is seen by the guest's
kernel only as a block device.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

from dmaproof.errors import DmaproofError
from dmaproof.guest import cpio, kernel, packages, store, userland
from dmaproof.guest.cpio import Entry
from dmaproof.guest.telling import quietly
from dmaproof.guest.unpacked import PROGRAMS, wrap
from dmaproof.rig.hardware import Disk
from tests.support.lab import supplied

_PACKAGES = ("dropbear-bin", "mtools", "syslinux", "syslinux-common")
_TOOLS = (
    *("bin/mattrib", "bin/mcopy", "bin/mformat", "bin/mmove", "bin/syslinux"),  # the last runs the others, by PATH
    *("bin/dropbearkey", "sbin/dropbear"),
)
_DRIVERS = ("virtio_blk", "failover", "net_failover", "virtio_net")
"""In the order in which each finds what it needs."""
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_SECTOR_NBYTES, _SPARE_NBYTES = 512, 8 << 20
_MAKE_S = 120.0
_SYSLINUX = """\
SERIAL 0 115200
DEFAULT linux
LABEL linux
  KERNEL vmlinuz
  INITRD initrd
  APPEND console=ttyS0 loglevel=3 panic=-1 no_timer_check {words}
"""
_INIT = """\
#!/bin/sh
export PATH=/usr/sbin:/usr/bin HOME=/root
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs devtmpfs /dev
busybox mkdir -p /dev/pts /etc/dropbear
busybox mount -t devpts devpts /dev/pts
for driver in {drivers}; do busybox insmod /drivers/$driver.ko; done
busybox ifconfig lo 127.0.0.1 up
busybox ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
echo "the image is up"
{before}
dropbear -F -E -R -s
"""


@dataclass(frozen=True, slots=True)
class Image:
    """``path`` is the disk, raw; ``key`` the private key of its root."""

    path: Path
    key: Path
    release: str

    @property
    def disk(self) -> Disk:
        return Disk(path=str(self.path), format="raw", key=str(self.key))


def made(folder: Path, words: str = "", before: str = "") -> Image:
    """An image in ``folder``, whose kernel gets ``words`` too and whose first process runs ``before`` before the SSH
    server. Skips the test where something for it is not there, and says what."""
    supplied(image=kernel.STOCK, python=True)
    tree = _tree()
    key = folder / "key"
    _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "dmaproof", "-f", str(key)])
    stock = kernel.choose(kernel.STOCK, "x86_64")
    (folder / "initrd").write_bytes(_root(tree, stock, key.with_suffix(".pub"), before))
    (folder / "syslinux.cfg").write_text(_SYSLINUX.format(words=words))
    path = folder / "disk.img"
    _pack(tree, path, (stock.path, folder / "initrd", folder / "syslinux.cfg"))
    return Image(path, key, stock.release)


def server() -> tuple[list[str], list[str]]:
    """What begins the command lines of an SSH server and of what makes its key, on this system; skips as ``made``."""
    tree = _tree()
    return [str(tree / PROGRAMS / "dropbear")], [str(tree / PROGRAMS / "dropbearkey")]


def _tree() -> Path:
    for program in ("ssh", "ssh-keygen"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} on PATH: install openssh-client")
    try:
        return _supply()
    except DmaproofError as missing:
        pytest.skip(f"no {', '.join(_PACKAGES)} to make a disk image of: {missing}")


def _supply() -> Path:
    """The packages' tree: from the cache, else downloaded, whatever there is now."""
    key = hashlib.sha256(" ".join((*_PACKAGES, *_TOOLS)).encode()).hexdigest()[:12]
    target = store.folder() / "disk-image" / key
    if target.exists():
        return target
    with store.locked() as lock:
        archive = packages.archive("x86_64", lock, quietly)
        with store.making(target) as scratch:
            packages.unpack(archive, packages.closure(archive, _PACKAGES), scratch)
            for tool in _TOOLS:
                wrap(scratch, f"usr/{tool}", variables={"GCONV_PATH": f"{{}}/{_LIBRARIES}/gconv"})
    return target


def _root(tree: Path, stock: kernel.Kernel, public: Path, before: str) -> bytes:
    init = _INIT.format(drivers=" ".join(_DRIVERS), before=before)
    entries = [
        cpio.file("init", init.encode(), executable=True),
        cpio.file("etc/passwd", b"root::0:0:root:/root:/bin/sh\n"),
        cpio.file("root/.ssh/authorized_keys", public.read_bytes()),
        cpio.file("usr/sbin/dropbear", (tree / "usr/sbin/dropbear").read_bytes(), executable=True),
        *_libraries(tree),
        *_drivers(stock),
    ]
    return userland.find("x86_64").archive.read_bytes() + cpio.packed(entries)


def _libraries(tree: Path) -> Iterator[Entry]:
    """Those of dropbear that Python's archive has not, or has of the same suite."""
    for pattern in ("libcrypt.so*", "libgmp.so*", "libtomcrypt.so*", "libtommath.so*", "libz.so*"):
        for path in sorted((tree / _LIBRARIES).glob(pattern)):
            name = f"{_LIBRARIES}/{path.name}"
            if path.is_symlink():
                yield cpio.link(name, os.fspath(path.readlink()))
            else:
                yield cpio.file(name, path.read_bytes())


def _drivers(stock: kernel.Kernel) -> Iterator[Entry]:
    assert stock.modules is not None
    dep = (stock.modules / "modules.dep").read_text().splitlines()
    paths = [PurePosixPath(line.partition(":")[0]) for line in dep]
    for path in paths:
        if path.name.partition(".")[0] in _DRIVERS:
            content = (stock.modules / path).read_bytes()
            plain = lzma.decompress(content) if path.suffix == ".xz" else content
            yield cpio.file(f"drivers/{path.name.partition('.')[0]}.ko", plain)


def _pack(tree: Path, path: Path, files: Sequence[Path]) -> None:
    nbytes = sum(one.stat().st_size for one in files) + _SPARE_NBYTES
    tools = tree / PROGRAMS
    _run([str(tools / "mformat"), "-C", "-i", str(path), "-T", str(nbytes // _SECTOR_NBYTES), "::"])
    _run([str(tools / "mcopy"), "-i", str(path), *map(str, files), "::"])
    _run([str(tools / "syslinux"), "--install", str(path)], path=tools)


def _run(words: Sequence[str], path: Path | None = None) -> None:
    env = os.environ if path is None else {**os.environ, "PATH": f"{path}:{os.environ['PATH']}"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=_MAKE_S, check=False, env=env)
    assert done.returncode == 0, f"{words[0]}: {done.stdout}{done.stderr}"
