"""Asking VFIO and iommufd: the numbers of their ioctls, and one way to call them.

All numbers are ``_IO(';', nr)`` (include/uapi/linux/vfio.h, iommufd.h): no size is coded in them, the argument's first
field carries it.
"""

from __future__ import annotations

import ctypes
import enum
import fcntl

from dmaproof.errors import IoctlError

_TYPE = ord(";") << 8


class Request(enum.IntEnum):
    """Names as in the headers."""

    VFIO_GET_API_VERSION = _TYPE | 100
    VFIO_CHECK_EXTENSION = _TYPE | 101
    VFIO_SET_IOMMU = _TYPE | 102
    VFIO_GROUP_GET_STATUS = _TYPE | 103
    VFIO_GROUP_SET_CONTAINER = _TYPE | 104
    VFIO_GROUP_GET_DEVICE_FD = _TYPE | 106
    VFIO_DEVICE_GET_INFO = _TYPE | 107
    VFIO_DEVICE_GET_REGION_INFO = _TYPE | 108
    VFIO_DEVICE_RESET = _TYPE | 111
    VFIO_DEVICE_FEATURE = _TYPE | 117
    VFIO_DEVICE_BIND_IOMMUFD = _TYPE | 118
    VFIO_DEVICE_ATTACH_IOMMUFD_PT = _TYPE | 119
    VFIO_DEVICE_DETACH_IOMMUFD_PT = _TYPE | 120
    IOMMU_DESTROY = _TYPE | 0x80
    IOMMU_IOAS_ALLOC = _TYPE | 0x81
    IOMMU_IOAS_IOVA_RANGES = _TYPE | 0x84
    IOMMU_IOAS_MAP = _TYPE | 0x85
    IOMMU_IOAS_UNMAP = _TYPE | 0x86
    IOMMU_GET_HW_INFO = _TYPE | 0x8A
    IOMMU_IOAS_MAP_FILE = _TYPE | 0x8F


class Type1(enum.IntEnum):
    """What a type1 container is asked. A device reads the same numbers as something else, hence apart."""

    VFIO_IOMMU_GET_INFO = _TYPE | 112
    VFIO_IOMMU_MAP_DMA = _TYPE | 113
    VFIO_IOMMU_UNMAP_DMA = _TYPE | 114


Argument = ctypes.Structure | ctypes.Array[ctypes.c_char] | int


def call(fd: int, request: Request | Type1, argument: Argument = 0, *, subject: str) -> int:
    """What the ioctl returns; a structure or array is filled in place.

    ``subject`` is what ``fd`` stands for in the message: ``0000:01:00.0``, ``/dev/vfio/7``. Raises IoctlError.
    """
    try:
        if isinstance(argument, int):
            return fcntl.ioctl(fd, request, argument)
        result: int = fcntl.ioctl(fd, request, argument, True)
        return result
    except OSError as error:
        raise IoctlError(request.name, subject, told(argument), error.errno or 0) from None


def told(argument: Argument) -> str:
    """``argument`` for people: ``flags=0x3, iova=0x100000``, or the text or number that it is."""
    if isinstance(argument, int):
        return str(argument)
    if isinstance(argument, ctypes.Array):
        return bytes(argument).split(b"\0")[0].decode("utf-8", "replace")
    values = ((field[0], getattr(argument, field[0])) for field in argument._fields_)
    return ", ".join(f"{name}={value:#x}" for name, value in values if isinstance(value, int) and name != "argsz")
