"""What nodes of graphs are told to do, as programs write it down (cuda.h)."""

from __future__ import annotations

import ctypes
from typing import TypeVar

from dmaproof.virtual.driver.boxes import Box
from dmaproof.virtual.driver.calls.pool import PoolProps
from dmaproof.virtual.driver.errors import not_supported, require

_HOST, _DEVICE, _ARRAY, _UNIFIED = 1, 2, 3, 4  # CUmemorytype (cuda.h)
T = TypeVar("T", bound=ctypes.Structure)


class KernelParams(ctypes.Structure):
    """CUDA_KERNEL_NODE_PARAMS_v2 and _v3."""

    _fields_ = (
        ("function", ctypes.c_void_p),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_nbytes", ctypes.c_uint),
        ("parameters", ctypes.c_void_p),
        ("extra", ctypes.c_void_p),
        ("kernel", ctypes.c_void_p),
        ("context", ctypes.c_void_p),
    )


class CopyEnd(ctypes.Structure):
    """One half of CUDA_MEMCPY3D_v2 and of CUDA_MEMCPY3D_PEER, where ``peer`` is its context."""

    _fields_ = (
        ("x_nbytes", ctypes.c_size_t),
        ("y", ctypes.c_size_t),
        ("z", ctypes.c_size_t),
        ("lod", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("host", ctypes.c_void_p),
        ("device", ctypes.c_uint64),
        ("array", ctypes.c_void_p),
        ("peer", ctypes.c_void_p),
        ("pitch", ctypes.c_size_t),
        ("height", ctypes.c_size_t),
    )


class CopyParams(ctypes.Structure):
    """CUDA_MEMCPY3D_v2, CUDA_MEMCPY3D_PEER."""

    _fields_ = (
        ("source", CopyEnd),
        ("target", CopyEnd),
        ("width_nbytes", ctypes.c_size_t),
        ("height", ctypes.c_size_t),
        ("depth", ctypes.c_size_t),
    )


class _PlaneEnd(ctypes.Structure):
    """One half of CUDA_MEMCPY2D_v2."""

    _fields_ = (
        ("x_nbytes", ctypes.c_size_t),
        ("y", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("host", ctypes.c_void_p),
        ("device", ctypes.c_uint64),
        ("array", ctypes.c_void_p),
        ("pitch", ctypes.c_size_t),
    )


class PlaneParams(ctypes.Structure):
    """CUDA_MEMCPY2D_v2."""

    _fields_ = (
        ("source", _PlaneEnd),
        ("target", _PlaneEnd),
        ("width_nbytes", ctypes.c_size_t),
        ("height", ctypes.c_size_t),
    )

    def as_copy(self) -> CopyParams:
        """The same as a copy of one slice."""
        made = CopyParams(width_nbytes=self.width_nbytes, height=self.height, depth=1)
        for to, of in ((made.source, self.source), (made.target, self.target)):
            for name, _ in _PlaneEnd._fields_:
                setattr(to, name, getattr(of, name))
        return made


class FillParams(ctypes.Structure):
    """CUDA_MEMSET_NODE_PARAMS_v1."""

    _fields_ = (
        ("target", ctypes.c_uint64),
        ("pitch", ctypes.c_size_t),
        ("value", ctypes.c_uint),
        ("unit_nbytes", ctypes.c_uint),
        ("width", ctypes.c_size_t),
        ("height", ctypes.c_size_t),
    )


class HostParams(ctypes.Structure):
    """CUDA_HOST_NODE_PARAMS."""

    _fields_ = (("function", ctypes.c_void_p), ("data", ctypes.c_void_p))


class AllocParams(ctypes.Structure):
    """CUDA_MEM_ALLOC_NODE_PARAMS."""

    _fields_ = (
        ("pool", PoolProps),
        ("access", ctypes.c_void_p),
        ("naccess", ctypes.c_size_t),
        ("nbytes", ctypes.c_size_t),
        ("va", ctypes.c_uint64),
    )


def taken(kind: type[T], address: int) -> T:
    """A copy of what is at ``address``. INVALID_VALUE for nothing."""
    require(address)
    return kind.from_buffer_copy(kind.from_address(address))


def told(kind: type[T], address: int, parameters: object) -> None:
    """Write a node's parameters down. INVALID_VALUE for a node of another type."""
    require(address)
    if parameters is None:
        raise not_supported("telling the parameters of a captured node")
    require(isinstance(parameters, kind))
    ctypes.memmove(address, ctypes.addressof(parameters), ctypes.sizeof(kind))  # type: ignore[arg-type]


def box_of(asked: CopyParams) -> Box:
    """INVALID_VALUE where rows or slices would overlap (cuMemcpy2D: pitches are no less than the width)."""
    pitches = []
    for end in (asked.target, asked.source):
        require(asked.height <= 1 or end.pitch)
        require(not end.pitch or end.pitch >= end.x_nbytes + asked.width_nbytes)
        require(asked.depth <= 1 or end.height >= end.y + asked.height)
        pitches.append((end.pitch, end.pitch * end.height))
    return Box(asked.width_nbytes, asked.height, asked.depth, *pitches)


def address_of(end: CopyEnd) -> int:
    """Where the first byte of the copy is. INVALID_VALUE."""
    if end.type == _ARRAY or end.array or end.lod:
        raise not_supported("copies from or to arrays")
    require(end.type in (_HOST, _DEVICE, _UNIFIED))
    base = (end.host or 0) if end.type == _HOST else end.device
    return int(base + end.x_nbytes + end.y * end.pitch + end.z * end.pitch * end.height)
