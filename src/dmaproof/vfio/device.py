"""A PCI function held through VFIO: its regions, its configuration space, its reset.

However it was opened (group or cdev), the file is the same (Documentation/driver-api/vfio.rst).
"""

from __future__ import annotations

import ctypes
import enum
import os
from dataclasses import dataclass
from typing import Self

from dmaproof.errors import DmaproofError, IoctlError
from dmaproof.vfio import layouts
from dmaproof.vfio.ioctl import Request, call
from dmaproof.vfio.mmio import Mmio

BARS = range(6)
_CONFIG_REGION = 7
_RESETTABLE, _PCI = 1, 2  # VFIO_DEVICE_FLAGS_*
_READABLE, _WRITABLE, _MAPPABLE = 1, 2, 4  # VFIO_REGION_INFO_FLAG_*
_GET, _SET, _PROBE = 1 << 16, 1 << 17, 1 << 18
_NOT_OFFERED = ("ENOTTY", "EOPNOTSUPP", "EINVAL")


class Feature(enum.IntEnum):
    """VFIO_DEVICE_FEATURE_*, as far as they are used here."""

    LOW_POWER_ENTRY = 3
    LOW_POWER_EXIT = 5
    DMA_BUF = 11


@dataclass(frozen=True, slots=True)
class Region:
    """A window into the device's file. ``nbytes`` is 0 where the device has no such region."""

    index: int
    offset: int
    nbytes: int
    readable: bool
    writable: bool
    mappable: bool


class Device:
    """One opened function. ``fd`` is its VFIO file; closing it resets the function and revokes its dma-bufs."""

    def __init__(self, fd: int, bdf: str) -> None:
        self.fd, self.bdf = fd, bdf
        info = layouts.DeviceInfo()
        call(fd, Request.VFIO_DEVICE_GET_INFO, info, subject=bdf)
        if not info.flags & _PCI:
            raise DmaproofError(f"{bdf}: VFIO says that this is no PCI function (flags {info.flags:#x})")
        self.resettable = bool(info.flags & _RESETTABLE)
        self.config = self.region(_CONFIG_REGION)

    def region(self, index: int) -> Region:
        """Region ``index``: 0-5 are the BARs, 6 the ROM, 7 the configuration space. Raises IoctlError."""
        info = layouts.RegionInfo(index=index)
        call(self.fd, Request.VFIO_DEVICE_GET_REGION_INFO, info, subject=self.bdf)
        flags = info.flags
        return Region(
            index,
            info.offset,
            info.size,
            readable=bool(flags & _READABLE),
            writable=bool(flags & _WRITABLE),
            mappable=bool(flags & _MAPPABLE),
        )

    @property
    def bars(self) -> tuple[Region, ...]:
        """The BARs that the function has."""
        return tuple(one for one in map(self.region, BARS) if one.nbytes)

    def bar(self, index: int) -> Mmio:
        """BAR ``index`` as memory. Raises DmaproofError where it cannot be mapped."""
        region = self.region(index)
        if not region.mappable:
            raise DmaproofError(f"{self.bdf} has no BAR {index} that can be mapped ({region.nbytes:#x} bytes)")
        return Mmio(self.fd, region.nbytes, region.offset, f"{self.bdf} BAR {index}")

    def read(self, region: Region, offset: int, nbytes: int) -> bytes:
        """By the kernel's hand: where the memory is disabled this is EIO and no SIGBUS. Raises DmaproofError."""
        try:
            data = os.pread(self.fd, nbytes, region.offset + offset)
        except OSError as error:
            raise self._refused(f"reading {nbytes} bytes", region, offset, error) from None
        if len(data) != nbytes:
            raise DmaproofError(f"{self.bdf}: region {region.index} gave {len(data)} of {nbytes} bytes at {offset:#x}")
        return data

    def write(self, region: Region, offset: int, data: bytes) -> None:
        """Like ``read``."""
        try:
            os.pwrite(self.fd, data, region.offset + offset)
        except OSError as error:
            raise self._refused(f"writing {data.hex()}", region, offset, error) from None

    def _refused(self, doing: str, region: Region, offset: int, error: OSError) -> DmaproofError:
        return DmaproofError(f"{self.bdf}: {doing} at {offset:#x} of region {region.index}: {error.strerror}")

    def read_config(self, offset: int, nbytes: int) -> int:
        return int.from_bytes(self.read(self.config, offset, nbytes), "little")

    def write_config(self, offset: int, nbytes: int, value: int) -> None:
        self.write(self.config, offset, value.to_bytes(nbytes, "little"))

    def reset(self) -> None:
        """By the function's first reset method that works (sysfs ``reset_method``). Raises IoctlError."""
        call(self.fd, Request.VFIO_DEVICE_RESET, subject=self.bdf)

    def feature(self, feature: Feature, payload: bytes = b"", *, setting: bool = False) -> int:
        """VFIO_DEVICE_FEATURE: what the ioctl returns. Raises IoctlError."""
        return self._feature(feature, _SET if setting else _GET, payload)

    def offers(self, feature: Feature, *, setting: bool = False) -> bool:
        """Asked by PROBE, which changes nothing."""
        try:
            self._feature(feature, _PROBE | (_SET if setting else _GET), b"")
        except IoctlError as error:
            if error.name not in _NOT_OFFERED:
                raise
            return False
        return True

    def _feature(self, feature: Feature, how: int, payload: bytes) -> int:
        header = layouts.Feature(flags=feature | how)
        header.argsz += len(payload)
        argument = ctypes.create_string_buffer(bytes(header) + payload, header.argsz)
        try:
            return call(self.fd, Request.VFIO_DEVICE_FEATURE, argument, subject=self.bdf)
        except IoctlError as error:
            raise IoctlError(error.ioctl, self.bdf, f"{feature.name} {payload.hex()}".strip(), error.code) from None

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
