"""Places of memory as programs name them (CUmemLocation), and what may be asked of each."""

from __future__ import annotations

import ctypes

from dmaproof.virtual.driver.calls.device import reaches
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import CuResult, DriverError, not_supported, require
from dmaproof.virtual.driver.gpus import Device
from dmaproof.virtual.driver.pages import numa
from dmaproof.virtual.driver.physical import DEVICE, FABRIC, HOST_NUMA, HOST_NUMA_CURRENT, ON_HOST, POSIX_FD, Wish
from dmaproof.virtual.driver.pools import PINNED
from dmaproof.virtual.driver.rights import CPU, NONE, READ, READ_WRITE

_ALL_HANDLE_TYPES = 1 | 2 | 4 | 8
_HOPPER = (9, 0)


class Location(ctypes.Structure):
    """CUmemLocation (cuda.h)."""

    _fields_ = (("kind", ctypes.c_int), ("number", ctypes.c_int))


class AllocationProp(ctypes.Structure):
    """CUmemAllocationProp (cuda.h)."""

    _fields_ = (
        ("kind", ctypes.c_int),
        ("handle_types", ctypes.c_int),
        ("location", Location),
        ("win32", ctypes.c_void_p),
        ("compression", ctypes.c_ubyte),
        ("rdma", ctypes.c_ubyte),
        ("usage", ctypes.c_ushort),
        ("reserved", ctypes.c_ubyte * 4),
    )


class Access(ctypes.Structure):
    """CUmemAccessDesc (cuda.h)."""

    _fields_ = (("location", Location), ("flags", ctypes.c_int))


def host_numa_supported() -> bool:
    """Whether host memory of a NUMA node can be had by handle: where the GPUs address pageable memory too."""
    return driver().fabric.node.pageable


def fabric_supported(device: Device) -> bool:
    """Whether the GPU can have memory that other nodes reach: Hopper and later on NVLink switches."""
    return device.compute_capability >= _HOPPER and bool(device.gpu.nvlinks)


def wish_of(prop: AllocationProp) -> Wish:
    """What ``prop`` asks for. INVALID_VALUE, INVALID_DEVICE, NOT_SUPPORTED."""
    if prop.kind != PINNED or prop.handle_types & ~_ALL_HANDLE_TYPES:
        raise DriverError(CuResult.INVALID_VALUE)
    if prop.usage:
        raise not_supported(f"cuMemCreate with usage {prop.usage:#x}")
    wish = Wish(prop.location.kind, prop.location.number, prop.handle_types)
    check_place(wish)
    return wish


def check_place(wish: Wish) -> None:
    """That memory can be had there by handle."""
    if wish.location == ON_HOST or (wish.location == HOST_NUMA and not host_numa_supported()):
        raise DriverError(CuResult.NOT_SUPPORTED)
    check_exists(wish.location, wish.number)


def check_exists(location: int, number: int) -> None:
    """That the node has such a place. INVALID_VALUE, INVALID_DEVICE."""
    if location == DEVICE:
        driver().device(number)
    elif location != ON_HOST:
        require(location == HOST_NUMA and 0 <= number < driver().fabric.node.numa_nodes)


def residence(location: int, number: int) -> int:
    """The place as residence is kept: the ordinal of a GPU, CPU, or a NUMA node of the host (pages.numa)."""
    if location == DEVICE:
        return driver().device(number).ordinal
    if location == ON_HOST:
        return CPU
    if location == HOST_NUMA_CURRENT:
        return numa(_current_node())
    if location != HOST_NUMA:
        raise not_supported(f"memory location of type {location}: only DEVICE, HOST, HOST_NUMA and HOST_NUMA_CURRENT")
    if number >= driver().fabric.node.numa_nodes:
        raise DriverError(CuResult.INVALID_DEVICE)
    return numa(number)


def _current_node() -> int:
    """The node of the calling thread's CPU: getcpu(2). The rig may have fewer nodes than the system under it."""
    node = ctypes.c_uint()
    ctypes.CDLL(None).getcpu(None, ctypes.byref(node))
    return min(int(node.value), driver().fabric.node.numa_nodes - 1)


def check_handle_types(wish: Wish) -> None:
    """That memory may be exported so. Fabric handles need a GPU that has them and an IMEX channel, which nobody gives
    this process: NOT_PERMITTED (cuMemCreate)."""
    if wish.handle_types & FABRIC and wish.location == DEVICE and fabric_supported(driver().device(wish.number)):
        raise DriverError(CuResult.NOT_PERMITTED)
    if wish.handle_types & ~POSIX_FD:
        raise DriverError(CuResult.NOT_SUPPORTED)


def number_of(location: Location) -> int:
    """The ordinal of a GPU, or CPU. INVALID_VALUE, INVALID_DEVICE."""
    if location.kind == DEVICE:
        return driver().device(location.number).ordinal
    if location.kind in (ON_HOST, HOST_NUMA):
        return CPU
    raise DriverError(CuResult.INVALID_VALUE)


def checked_access(wish: Access, owner: Device | None) -> tuple[int, int]:
    """Who gets which rights to memory of ``owner`` (None: the host's). INVALID_VALUE; INVALID_DEVICE where the two
    cannot be peers (programming guide, cudaMemPoolSetAccess)."""
    number = number_of(wish.location)
    if wish.flags not in (NONE, READ, READ_WRITE) or (number == CPU and owner is not None):
        raise DriverError(CuResult.INVALID_VALUE)
    if owner is not None and number != owner.ordinal and not reaches(number, owner.ordinal):
        raise DriverError(CuResult.INVALID_DEVICE)
    return number, wish.flags
