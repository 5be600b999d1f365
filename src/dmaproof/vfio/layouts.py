"""The arguments of the ioctls, laid out as in include/uapi/linux/vfio.h and iommufd.h.

Where a header's structure has grown at its end, the older, shorter form is used: every kernel takes it. The first field
is the length, called ``argsz`` here also where iommufd calls it ``size``.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int32 as s32
from ctypes import c_uint8 as u8
from ctypes import c_uint32 as u32
from ctypes import c_uint64 as u64
from typing import Any


class Sized(ctypes.Structure):
    """Says its own length."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(argsz=ctypes.sizeof(self), **fields)


class GroupStatus(Sized):
    _fields_ = (("argsz", u32), ("flags", u32))


class DeviceInfo(Sized):
    _fields_ = (("argsz", u32), ("flags", u32), ("num_regions", u32), ("num_irqs", u32))


class RegionInfo(Sized):
    _fields_ = (
        ("argsz", u32),
        ("flags", u32),
        ("index", u32),
        ("cap_offset", u32),
        ("size", u64),
        ("offset", u64),
    )


class Type1Info(Sized):
    _fields_ = (("argsz", u32), ("flags", u32), ("iova_pgsizes", u64), ("cap_offset", u32), ("pad", u32))


class CapabilityHeader(ctypes.Structure):
    """struct vfio_info_cap_header: ``next`` counts from the start of the info structure; 0 ends the chain."""

    _fields_ = (("id", ctypes.c_uint16), ("version", ctypes.c_uint16), ("next", u32))


class Range(ctypes.Structure):
    """Two numbers: an IOVA range (both ends inclusive), or offset and length of a part of a BAR."""

    _fields_ = (("first", u64), ("second", u64))


class Type1Map(Sized):
    _fields_ = (("argsz", u32), ("flags", u32), ("vaddr", u64), ("iova", u64), ("size", u64))


class Type1Unmap(Sized):
    _fields_ = (("argsz", u32), ("flags", u32), ("iova", u64), ("size", u64))


class BindIommufd(Sized):
    _fields_ = (("argsz", u32), ("flags", u32), ("iommufd", s32), ("out_devid", u32))


class Attach(Sized):
    _fields_ = (("argsz", u32), ("flags", u32), ("pt_id", u32))


class Detach(Sized):
    _fields_ = (("argsz", u32), ("flags", u32))


class Feature(Sized):
    """The header of struct vfio_device_feature: ``flags`` is the feature's number with GET, SET or PROBE."""

    _fields_ = (("argsz", u32), ("flags", u32))


class DmaBuf(ctypes.Structure):
    """struct vfio_device_feature_dma_buf, without the ranges that follow it."""

    _fields_ = (("region_index", u32), ("open_flags", u32), ("flags", u32), ("nr_ranges", u32))


class Destroy(Sized):
    _fields_ = (("argsz", u32), ("id", u32))


class IoasAlloc(Sized):
    _fields_ = (("argsz", u32), ("flags", u32), ("out_ioas_id", u32))


class IovaRanges(Sized):
    _fields_ = (
        ("argsz", u32),
        ("ioas_id", u32),
        ("num_iovas", u32),
        ("reserved", u32),
        ("allowed_iovas", u64),
        ("out_iova_alignment", u64),
    )


class IoasMap(Sized):
    _fields_ = (
        ("argsz", u32),
        ("flags", u32),
        ("ioas_id", u32),
        ("reserved", u32),
        ("user_va", u64),
        ("length", u64),
        ("iova", u64),
    )


class IoasMapFile(Sized):
    _fields_ = (
        ("argsz", u32),
        ("flags", u32),
        ("ioas_id", u32),
        ("fd", s32),
        ("start", u64),
        ("length", u64),
        ("iova", u64),
    )


class IoasUnmap(Sized):
    _fields_ = (("argsz", u32), ("ioas_id", u32), ("iova", u64), ("length", u64))


class HwInfo(Sized):
    _fields_ = (
        ("argsz", u32),
        ("flags", u32),
        ("dev_id", u32),
        ("data_len", u32),
        ("data_uptr", u64),
        ("out_data_type", u32),
        ("out_max_pasid_log2", u8),
        ("reserved", u8 * 3),
        ("out_capabilities", u64),
    )
