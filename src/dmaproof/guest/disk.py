"""A guest's disk image, and the one way into it over a network: what QEMU is told of both. Pure, but for the look at
whether the files are there, on this system and on the one that makes the guest.
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


def found(node: str, disk: Disk) -> Disk:
    """``disk`` with its files named so that they are the same whoever looks, and from wherever.

    Raises UsageError naming the key whose file cannot be read, and where this system has no ssh.
    """
    if (lacks := lacking(disk)) is not None:
        raise UsageError(f"node.{node}.{lacks}")
    return disk.model_copy(update={"path": os.fspath(_file_of(disk.path)), "key": os.fspath(_file_of(disk.key))})


def lacking(disk: Disk) -> str | None:
    """What this system lacks for a guest with ``disk``, beginning with the key of the rig; None where it has all."""
    for key, value in (("path", disk.path), ("key", disk.key)):
        try:
            _file_of(value).open("rb").close()
        except OSError as error:
            return f"guest.disk.{key} = {value!r} cannot be read: {error.strerror}"
    if shutil.which("ssh") is None:
        return "guest.fill = 'image' takes an ssh, and none is on PATH: install openssh-client"
    return None


def _file_of(named: str) -> Path:
    return Path(named).expanduser().absolute()


def options(disk: Disk, virtio: str = "") -> Iterator[str]:
    """QEMU's, ``disk`` being as ``found`` has it; ``virtio`` is what those of virtio devices end with.

    What the guest writes goes to a temporary file that QEMU unlinks as it opens it (snapshot=on: block.c,
    bdrv_append_temp_snapshot). Its network ends in QEMU: nothing is reached from it, and it is reached from the system
    that QEMU runs on alone, by a port that the kernel chooses (``restrict``, ``hostfwd``: net/slirp.c).
    """
    file = disk.path.replace(",", ",,")  # as QEMU's options have it: util/keyval.c
    yield from ("-drive", f"if=none,id={_DISK},file={file},format={disk.format},snapshot=on")
    first_but_for_a_kernel = "bootindex=1"  # that of "arguments" has 0
    yield from ("-device", f"virtio-blk-pci,drive={_DISK},bus=pcie.0,{first_but_for_a_kernel}{virtio}")
    yield from ("-netdev", f"user,id={_NET},restrict=on,ipv6=off,hostfwd=tcp:{LOOPBACK}:0-:{disk.port}")
    yield from ("-device", f"virtio-net-pci,netdev={_NET},bus=pcie.0,romfile={virtio}")  # nobody boots from it
    yield from ("-machine", "graphics=off")  # firmware and boot loader speak on the serial port (etc/sercon-port)


def forwarded(said: str) -> int:
    """The port of this system that QEMU passes on to the guest, by its answer to ``info usernet``. Raises NodeError."""
    found = _FORWARDED.search(said)
    if found is None:
        raise NodeError(f"QEMU passes no port on to the guest: {said.strip()!r}")
    return int(found[1])
