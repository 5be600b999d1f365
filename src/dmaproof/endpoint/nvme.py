"""NVMe drives as DMA engines of the kernel's own: a controller memory buffer of one, reads and writes of another.

``p2pmem/allocate`` hands pages of the buffer to a process, which gives them to O_DIRECT reads and writes of any drive
(Documentation/ABI/testing/sysfs-bus-pci, drivers/pci/p2pdma.c): the drive's controller then does DMA to its peer.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dmaproof.endpoint.mmio import ROOT
from dmaproof.errors import EndpointError, Unsupported
from dmaproof.pci import sysfs

MARK = b"dmaproof p2pdma scratch block   "
"""How each block begins that this module writes: what a run that was killed left behind is known by it."""
BLOCK_NBYTES = 4096
_NAMESPACE = re.compile(r"nvme\d+n\d+")


def block_device(bdf: str, root: Path = ROOT) -> Path:
    """The first namespace of the drive at ``bdf``, in /dev. Raises EndpointError."""
    folder = root / sysfs.DEVICES / bdf / "nvme"
    for controller in sysfs.names(folder):
        for name in sysfs.names(folder / controller):
            if _NAMESPACE.fullmatch(name):
                return root / "dev" / name
    raise EndpointError(f"{bdf} has no NVMe namespace under {folder}: bind the nvme driver to it")


@contextmanager
def peer_memory(bdf: str, nbytes: int, root: Path = ROOT) -> Iterator[mmap.mmap]:
    """``nbytes`` of the controller memory buffer of the drive at ``bdf``, mapped. Raises Unsupported where it has none
    for others, EndpointError where it has no room."""
    folder = root / sysfs.DEVICES / bdf / "p2pmem"
    if sysfs.number(folder / "published") != 1:
        raise Unsupported(f"{bdf} publishes no peer-to-peer memory ({folder}): no buffer, or no P2PDMA")
    try:
        with (folder / "allocate").open("r+b", buffering=0) as file:
            mapped = mmap.mmap(file.fileno(), nbytes, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    except OSError as error:
        left = sysfs.number(folder / "available")
        raise EndpointError(f"{bdf}: no {nbytes} bytes of peer-to-peer memory: {error.strerror}; {left} left") from None
    with mapped:
        yield mapped


@contextmanager
def scratch(bdf: str, nbytes: int, root: Path = ROOT) -> Iterator[int]:
    """A descriptor of the drive at ``bdf``, past the page cache, whose first ``nbytes`` may be written on; zeros are
    left there. Raises EndpointError for a drive that is in use or holds something: its data is not at stake.
    """
    path = block_device(bdf, root)
    try:
        drive = os.open(path, os.O_RDWR | os.O_DIRECT | os.O_EXCL)  # O_EXCL: neither mounted nor part of an array
    except OSError as error:
        raise EndpointError(f"{path} ({bdf}) cannot be had alone: {error.strerror}; unmount it") from None
    try:
        with mmap.mmap(-1, nbytes) as own:
            _read_all(drive, own, path)
            if not _is_free(own[:]):
                raise EndpointError(f"{path} ({bdf}) holds data in its first {nbytes} bytes: give an empty drive")
            yield drive
            own[:] = bytes(nbytes)
            os.pwritev(drive, [own], 0)
    finally:
        os.close(drive)


def content(drive: int, nbytes: int) -> bytes:
    """The first ``nbytes`` of ``drive``, read into memory of this process."""
    with mmap.mmap(-1, nbytes) as own:
        _read_all(drive, own, Path(f"/proc/self/fd/{drive}"))
        return own[:]


def put(drive: int, data: bytes) -> None:
    """Write ``data`` (whole blocks) from memory of this process to the start of ``drive``. Raises EndpointError."""
    with mmap.mmap(-1, len(data)) as own:
        own[:] = data
        done = os.pwritev(drive, [own], 0)
    if done != len(data):
        raise EndpointError(f"a drive took {done} of {len(data)} bytes from ordinary memory: it is full, or broken")


def _read_all(drive: int, into: mmap.mmap, path: Path) -> None:
    done = os.preadv(drive, [into], 0)
    if done != len(into):
        raise EndpointError(f"{path} gives {done} of its first {len(into)} bytes: give a larger drive")


def _is_free(data: bytes) -> bool:
    blocks = (data[at : at + BLOCK_NBYTES] for at in range(0, len(data), BLOCK_NBYTES))
    return all(block.startswith(MARK) or not any(block) for block in blocks)
