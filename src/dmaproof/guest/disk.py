"""A guest's disk image, and the one way into it over a network: what QEMU is told of both. Pure, but for the look at
whether the files are there.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from dmaproof.errors import NodeError, UsageError
from dmaproof.rig.hardware import Disk

LOOPBACK = "127.0.0.1"
_DISK, _NET = "disk", "net"
_FORWARDED = re.compile(rf"HOST_FORWARD\]\s+\S+\s+{re.escape(LOOPBACK)}\s+(\d+)\s")
"""A line of what ``info usernet`` says (slirp_connection_info of libslirp)."""


def check(node: str, disk: Disk) -> None:
    """Raises UsageError naming the key whose file cannot be read, and where this system has no ssh."""
    for key, value in (("path", disk.path), ("key", disk.key)):
        try:
            file_of(value).open("rb").close()
        except OSError as error:
            raise UsageError(f"node.{node}.guest.disk.{key} = {value!r} cannot be read: {error.strerror}") from None
    if shutil.which("ssh") is None:
        raise UsageError(f"node.{node}.guest.fill = 'image' takes an ssh, and none is on PATH: install openssh-client")


def file_of(named: str) -> Path:
    return Path(named).expanduser().absolute()


def options(disk: Disk) -> Iterator[str]:
    """QEMU's. What the guest writes goes to a temporary file that QEMU unlinks as it opens it (snapshot=on: block.c,
    bdrv_append_temp_snapshot). Its network ends in QEMU: nothing is reached from it, and it is reached from this system
    alone, by a port that the kernel chooses (``restrict``, ``hostfwd``: net/slirp.c)."""
    file = os.fspath(file_of(disk.path)).replace(",", ",,")  # as QEMU's options have it: util/keyval.c
    yield from ("-drive", f"if=none,id={_DISK},file={file},format={disk.format},snapshot=on")
    yield from ("-device", f"virtio-blk-pci,drive={_DISK},bus=pcie.0,bootindex=1")  # a -kernel of "arguments" has 0
    yield from ("-netdev", f"user,id={_NET},restrict=on,ipv6=off,hostfwd=tcp:{LOOPBACK}:0-:{disk.port}")
    yield from ("-device", f"virtio-net-pci,netdev={_NET},bus=pcie.0,romfile=")  # nobody boots from it
    yield from ("-machine", "graphics=off")  # firmware and boot loader speak on the serial port (etc/sercon-port)


def forwarded(said: str) -> int:
    """The port of this system that QEMU passes on to the guest, by its answer to ``info usernet``. Raises NodeError."""
    found = _FORWARDED.search(said)
    if found is None:
        raise NodeError(f"QEMU passes no port on to the guest: {said.strip()!r}")
    return int(found[1])
