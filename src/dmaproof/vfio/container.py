"""The group interface: groups in a container with a type1 IOMMU, or with none (Documentation/driver-api/vfio.rst)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from dmaproof.errors import DmaproofError, IoctlError, Unsupported
from dmaproof.vfio import layouts
from dmaproof.vfio.device import Device
from dmaproof.vfio.ioctl import Request, Type1, call
from dmaproof.vfio.iommufd import IovaRange, unsafe_interrupts

Backend = Literal["type1", "type1v2", "no-iommu"]
_BACKENDS: dict[Backend, int] = {"type1": 1, "type1v2": 3, "no-iommu": 8}
_CONTAINER = Path("/dev/vfio/vfio")
_VIABLE = 1
_READ, _WRITE = 1, 2
_HAS_CAPABILITIES = 2
_IOVA_RANGES = 1
_API_VERSION = 0


@dataclass(frozen=True, slots=True)
class Type1Info:
    """``page_sizes`` is a bitmap of sizes in bytes; ``ranges`` is empty where the kernel does not tell them."""

    page_sizes: int
    ranges: tuple[IovaRange, ...]


class Container:
    """An open ``/dev/vfio/vfio``. Raises Unsupported where the kernel has none."""

    def __init__(self) -> None:
        self.fd = _open(_CONTAINER, "the kernel has no VFIO container (CONFIG_VFIO_CONTAINER)")
        version = call(self.fd, Request.VFIO_GET_API_VERSION, subject=str(_CONTAINER))
        if version != _API_VERSION:
            os.close(self.fd)
            raise Unsupported(f"{_CONTAINER} speaks VFIO version {version}; {_API_VERSION} is the one that is known")

    def offers(self, backend: Backend) -> bool:
        return bool(call(self.fd, Request.VFIO_CHECK_EXTENSION, _BACKENDS[backend], subject=str(_CONTAINER)))

    def set_backend(self, backend: Backend) -> None:
        """After the first group has joined. Raises Unsupported where interrupts are not remapped."""
        try:
            call(self.fd, Request.VFIO_SET_IOMMU, _BACKENDS[backend], subject=str(_CONTAINER))
        except IoctlError as error:
            raise unsafe_interrupts(error, "vfio_iommu_type1") from None

    def map(self, address: int, nbytes: int, iova: int, *, read: bool = True, write: bool = True) -> int:
        """Map ``nbytes`` of this process at ``address``; returns ``iova``. Raises IoctlError."""
        flags = (_READ if read else 0) | (_WRITE if write else 0)
        argument = layouts.Type1Map(flags=flags, vaddr=address, iova=iova, size=nbytes)
        call(self.fd, Type1.VFIO_IOMMU_MAP_DMA, argument, subject=str(_CONTAINER))
        return iova

    def unmap(self, iova: int, nbytes: int) -> int:
        """How many bytes were unmapped: type1 says 0, not ENOENT, where nothing was mapped."""
        argument = layouts.Type1Unmap(iova=iova, size=nbytes)
        call(self.fd, Type1.VFIO_IOMMU_UNMAP_DMA, argument, subject=str(_CONTAINER))
        return int(argument.size)

    def info(self) -> Type1Info:
        short = layouts.Type1Info()
        call(self.fd, Type1.VFIO_IOMMU_GET_INFO, short, subject=str(_CONTAINER))
        room = ctypes.create_string_buffer(bytes(short), short.argsz)
        call(self.fd, Type1.VFIO_IOMMU_GET_INFO, room, subject=str(_CONTAINER))
        whole = layouts.Type1Info.from_buffer_copy(room)
        told = whole.flags & _HAS_CAPABILITIES
        return Type1Info(whole.iova_pgsizes, iova_ranges(room.raw, whole.cap_offset) if told else ())

    def iova_ranges(self) -> tuple[IovaRange, ...]:
        return self.info().ranges

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def iova_ranges(info: bytes, at: int) -> tuple[IovaRange, ...]:
    """The ranges in a type1 info structure whose chain of capabilities begins at ``at``."""
    header, one = ctypes.sizeof(layouts.CapabilityHeader), ctypes.sizeof(layouts.Range)
    while at and at + header <= len(info):
        capability = layouts.CapabilityHeader.from_buffer_copy(info, at)
        if capability.id == _IOVA_RANGES:
            first = at + header + 8
            count = min(int.from_bytes(info[at + header : at + header + 4], "little"), max(0, len(info) - first) // one)
            ranges = [layouts.Range.from_buffer_copy(info, first + index * one) for index in range(count)]
            return tuple(IovaRange(found.first, found.second) for found in ranges)
        at = capability.next if capability.next > at else 0  # a chain that turns back is no chain
    return ()


class Group:
    """An open ``/dev/vfio/N`` (``noiommu-N`` for no-IOMMU). Raises DmaproofError: busy, or not wholly VFIO's."""

    def __init__(self, name: str) -> None:
        self.path = Path("/dev/vfio", name)
        self.fd = _open(self.path, "no VFIO driver has a function of this group")
        status = layouts.GroupStatus()
        call(self.fd, Request.VFIO_GROUP_GET_STATUS, status, subject=str(self.path))
        if not status.flags & _VIABLE:
            os.close(self.fd)
            raise DmaproofError(f"{self.path} is not viable: another driver has a function of this IOMMU group")

    def join(self, container: Container) -> None:
        argument = ctypes.create_string_buffer(container.fd.to_bytes(4, "little"), 4)
        call(self.fd, Request.VFIO_GROUP_SET_CONTAINER, argument, subject=str(self.path))

    def device(self, bdf: str) -> Device:
        fd = call(self.fd, Request.VFIO_GROUP_GET_DEVICE_FD, ctypes.create_string_buffer(bdf.encode()), subject=bdf)
        try:
            return Device(fd, bdf)
        except BaseException:
            os.close(fd)
            raise

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def group_name(bdf: str) -> str:
    """How the group of ``bdf`` is called under ``/dev/vfio``. Raises DmaproofError where it has none."""
    folder = Path("/sys/bus/pci/devices", bdf, "iommu_group")
    try:
        number = folder.readlink().name
    except OSError:
        raise DmaproofError(f"{bdf} is in no IOMMU group: no IOMMU is active, and no-IOMMU mode is off") from None
    plain = not (folder / "name").exists() or "noiommu" not in (folder / "name").read_text(encoding="utf-8")
    return number if plain else f"noiommu-{number}"


@contextmanager
def opened(bdfs: tuple[str, ...], backend: Backend = "type1v2") -> Iterator[tuple[Container, tuple[Device, ...]]]:
    """A container with the groups of ``bdfs`` and ``backend`` in it, and those functions; all closed at the end."""
    with ExitStack() as made:
        container = made.enter_context(Container())
        groups = {name: made.enter_context(Group(name)) for name in dict.fromkeys(map(group_name, bdfs))}
        for number, group in enumerate(groups.values()):
            group.join(container)
            if number == 0:
                container.set_backend(backend)
        devices = tuple(made.enter_context(groups[group_name(bdf)].device(bdf)) for bdf in bdfs)
        yield container, devices


def _open(path: Path, lack: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Unsupported(f"no {path}: {lack}") from None
    except OSError as error:
        raise DmaproofError(f"cannot open {path}: {error.strerror}") from None
