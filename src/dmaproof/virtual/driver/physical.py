"""Memory without an address (cuMemCreate): it lives as long as a handle or a mapping refers to it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dmaproof.virtual.driver import shared_files
from dmaproof.virtual.driver.chunks import DeviceMemory, Memory
from dmaproof.virtual.driver.errors import CuResult, DriverError
from dmaproof.virtual.driver.gpus import Device
from dmaproof.virtual.driver.host import READ_WRITE, MappedMemory, map_file, unmap
from dmaproof.virtual.driver.shared_files import Label
from dmaproof.virtual.wire import HOST

if TYPE_CHECKING:
    from dmaproof.virtual.driver.driver import Driver

GRANULARITY = 2 << 20
POSIX_FD, FABRIC = 1, 8
"""CUmemAllocationHandleType (cuda.h)."""
NO_LOCATION, DEVICE, ON_HOST, HOST_NUMA, HOST_NUMA_CURRENT = 0, 1, 2, 3, 4
"""CUmemLocationType (cuda.h)."""


@dataclass(frozen=True, slots=True)
class Wish:
    """CUmemAllocationProp: where (``numa`` node, or a GPU's ordinal, by ``location``) and how it may be exported."""

    location: int
    number: int
    handle_types: int = 0


@dataclass(eq=False, slots=True)
class Physical:
    """``nbytes`` on ``device`` (None: the host). ``fd`` is its file, once others may open it; host memory always has
    one, because the program sees it by a mapping of its own. ``accounted``: this process took it from the GPU."""

    wish: Wish
    nbytes: int
    device: Device | None
    memory: Memory
    fd: int | None = None
    accounted: bool = False
    handles: int = 1
    mappings: int = 0

    def export(self) -> int:
        """A descriptor of its file, for whoever asked for one to keep."""
        if self.fd is None:
            assert isinstance(self.memory, DeviceMemory)  # noqa: S101 - host memory has its file from the start
            self.fd = shared_files.create(_label(self.wish, self.nbytes, self.device))
            self.memory.back(shared_files.content(self.fd))
        return os.dup(self.fd)

    def let_go(self) -> None:
        """Nobody refers to it from here any more."""
        if self.accounted and self.device is not None:
            self.device.used_nbytes -= self.nbytes
        if isinstance(self.memory, MappedMemory):
            unmap(self.memory.address, self.memory.nbytes)
        if self.fd is not None:
            os.close(self.fd)


def create(driver: Driver, wish: Wish, nbytes: int) -> Physical:
    """Fresh memory. OUT_OF_MEMORY where the GPU has not so much left."""
    if wish.location != DEVICE:
        return _on_host(wish, nbytes, shared_files.create(_label(wish, nbytes, None)))
    device = driver.device(wish.number)
    if nbytes > device.memory_nbytes - device.used_nbytes:
        raise DriverError(CuResult.OUT_OF_MEMORY)
    device.used_nbytes += nbytes
    return Physical(wish, nbytes, device, DeviceMemory(nbytes), accounted=True)


def imported(driver: Driver, fd: int) -> Physical:
    """What another process, or this one, exported as ``fd``, which stays the caller's. INVALID_VALUE for any other
    file, NOT_SUPPORTED where this process does not see the GPU."""
    found = shared_files.label(fd)
    if found.kind != "vmm":
        raise DriverError(CuResult.INVALID_VALUE)
    if found.place == HOST:
        return _on_host(Wish(HOST_NUMA, found.numa, found.handle_types), found.nbytes, os.dup(fd))
    device = driver.by_bdf.get(found.place)
    if device is None:
        raise DriverError(CuResult.NOT_SUPPORTED)
    memory = DeviceMemory(found.nbytes)
    memory.back(shared_files.content(fd), keep=False)
    wish = Wish(DEVICE, device.ordinal, found.handle_types)
    return Physical(wish, found.nbytes, device, memory, os.dup(fd))


def _on_host(wish: Wish, nbytes: int, fd: int) -> Physical:
    return Physical(wish, nbytes, None, MappedMemory(map_file(fd, nbytes, READ_WRITE), nbytes), fd)


def _label(wish: Wish, nbytes: int, device: Device | None) -> Label:
    place = HOST if device is None else device.bdf
    return Label("vmm", place, nbytes, wish.number if device is None else 0, wish.handle_types)
