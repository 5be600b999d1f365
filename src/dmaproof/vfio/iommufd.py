"""iommufd: I/O address spaces, and functions attached to them (Documentation/userspace-api/iommufd.rst)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dmaproof.errors import DmaproofError, IoctlError, Unsupported
from dmaproof.vfio import layouts
from dmaproof.vfio.device import Device
from dmaproof.vfio.ioctl import Request, call

DEVICE = Path("/dev/iommu")
_FIXED, _WRITE, _READ = 1, 2, 4
_NO_ATS = 1 << 3
_EVERYTHING = (1 << 64) - 1
_FAMILIES = {0: "none", 1: "vtd", 2: "smmuv3", 3: "tegra241-cmdqv", 4: "amdvi"}


@dataclass(frozen=True, slots=True)
class IovaRange:
    """Bus addresses from ``first`` to ``last``, inclusive."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class HardwareInfo:
    """The IOMMU over a device. ``ats``: whether ATS can be used there; True also from kernels that do not say."""

    family: str
    capabilities: int
    ats: bool


class Ioas:
    """One I/O address space. Raises IoctlError: EADDRINUSE and EEXIST for a range that is taken, EFAULT for memory
    that cannot be pinned (a BAR's mmap among them, on a mainline kernel)."""

    def __init__(self, iommufd: Iommufd) -> None:
        argument = layouts.IoasAlloc()
        call(iommufd.fd, Request.IOMMU_IOAS_ALLOC, argument, subject=str(DEVICE))
        self._iommufd, self.id = iommufd, int(argument.out_ioas_id)

    def map(self, address: int, nbytes: int, iova: int | None = None, *, read: bool = True, write: bool = True) -> int:
        """Map ``nbytes`` of this process at ``address``, at ``iova`` or where the kernel likes; returns the IOVA."""
        flags = _flags(iova, read, write)
        argument = layouts.IoasMap(flags=flags, ioas_id=self.id, user_va=address, length=nbytes, iova=iova or 0)
        self._call(Request.IOMMU_IOAS_MAP, argument)
        return int(argument.iova)

    def map_file(
        self, fd: int, nbytes: int, iova: int | None = None, *, start: int = 0, read: bool = True, write: bool = True
    ) -> int:
        """Map ``nbytes`` of ``fd`` (a memfd, or a dma-buf of vfio-pci) from its byte ``start``; returns the IOVA."""
        flags = _flags(iova, read, write)
        argument = layouts.IoasMapFile(flags=flags, ioas_id=self.id, fd=fd, start=start, length=nbytes, iova=iova or 0)
        self._call(Request.IOMMU_IOAS_MAP_FILE, argument)
        return int(argument.iova)

    def unmap(self, iova: int, nbytes: int) -> int:
        """Unmap whole mappings inside the range; returns how many bytes they were."""
        argument = layouts.IoasUnmap(ioas_id=self.id, iova=iova, length=nbytes)
        self._call(Request.IOMMU_IOAS_UNMAP, argument)
        return int(argument.length)

    def unmap_all(self) -> int:
        return self.unmap(0, _EVERYTHING)

    def iova_ranges(self) -> tuple[IovaRange, ...]:
        """Where mappings may lie, given the devices attached now."""
        argument = layouts.IovaRanges(ioas_id=self.id)
        try:
            self._call(Request.IOMMU_IOAS_IOVA_RANGES, argument)
        except IoctlError as error:
            if error.name != "EMSGSIZE":  # how the kernel says how many there are
                raise
        room = (layouts.Range * max(1, argument.num_iovas))()
        argument.allowed_iovas = ctypes.addressof(room)
        self._call(Request.IOMMU_IOAS_IOVA_RANGES, argument)
        return tuple(IovaRange(one.first, one.second) for one in room[: argument.num_iovas])

    def _call(self, request: Request, argument: ctypes.Structure) -> None:
        call(self._iommufd.fd, request, argument, subject=f"IOAS {self.id}")


def _flags(iova: int | None, read: bool, write: bool) -> int:
    return (0 if iova is None else _FIXED) | (_READ if read else 0) | (_WRITE if write else 0)


class Iommufd:
    """An open ``/dev/iommu``: closing it ends all its objects. Raises Unsupported where the kernel has none."""

    def __init__(self) -> None:
        try:
            self.fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise Unsupported(f"no {DEVICE}: the kernel has no iommufd (CONFIG_IOMMUFD)") from None
        except OSError as error:
            raise DmaproofError(f"cannot open {DEVICE}: {error.strerror}") from None

    def ioas(self) -> Ioas:
        return Ioas(self)

    def destroy(self, number: int) -> None:
        call(self.fd, Request.IOMMU_DESTROY, layouts.Destroy(id=number), subject=str(DEVICE))

    def hardware_info(self, device: BoundDevice) -> HardwareInfo:
        argument = layouts.HwInfo(dev_id=device.id)
        call(self.fd, Request.IOMMU_GET_HW_INFO, argument, subject=device.bdf)
        family = _FAMILIES.get(argument.out_data_type, f"type {argument.out_data_type}")
        return HardwareInfo(family, argument.out_capabilities, ats=not argument.out_capabilities & _NO_ATS)

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class BoundDevice(Device):
    """A function opened by its cdev and bound to ``iommufd``. Not attached, it has no address space: its DMA faults."""

    def __init__(self, bdf: str, iommufd: Iommufd) -> None:
        fd = _open(cdev(bdf))
        try:
            argument = layouts.BindIommufd(iommufd=iommufd.fd)
            _bind(fd, bdf, argument)
            self.id = int(argument.out_devid)
            super().__init__(fd, bdf)
        except BaseException:
            os.close(fd)
            raise

    def attach(self, ioas: Ioas) -> None:
        call(self.fd, Request.VFIO_DEVICE_ATTACH_IOMMUFD_PT, layouts.Attach(pt_id=ioas.id), subject=self.bdf)

    def detach(self) -> None:
        call(self.fd, Request.VFIO_DEVICE_DETACH_IOMMUFD_PT, layouts.Detach(), subject=self.bdf)


def _bind(fd: int, bdf: str, argument: layouts.BindIommufd) -> None:
    try:
        call(fd, Request.VFIO_DEVICE_BIND_IOMMUFD, argument, subject=bdf)
    except IoctlError as error:
        raise unsafe_interrupts(error, "iommufd") from None


def unsafe_interrupts(error: IoctlError, module: str) -> DmaproofError:
    """``error``, or what EPERM means to root: a device could forge interrupts (iommu_group_has_isolated_msi)."""
    if error.name != "EPERM":
        return error
    return Unsupported(
        f"{error}: interrupts are not remapped, and VFIO refuses; where that is no concern, "
        f"{module}.allow_unsafe_interrupts=1 on the kernel's command line allows it"
    )


def cdev(bdf: str) -> Path:
    """The device file of a function that vfio-pci has. Raises Unsupported where the kernel makes none."""
    folder = Path("/sys/bus/pci/devices", bdf, "vfio-dev")
    names = [one.name for one in folder.iterdir()] if folder.is_dir() else []
    path = Path("/dev/vfio/devices", names[0]) if names else None
    if path is None or not path.exists():
        raise Unsupported(f"{bdf} has no /dev/vfio/devices file: no VFIO driver, or no CONFIG_VFIO_DEVICE_CDEV")
    return path


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise DmaproofError(f"cannot open {path}: {error.strerror}") from None


@contextmanager
def attached(bdf: str, iommufd: Iommufd, ioas: Ioas) -> Iterator[BoundDevice]:
    """The function ``bdf`` attached to ``ioas``; closed at the end."""
    with BoundDevice(bdf, iommufd) as device:
        device.attach(ioas)
        yield device
