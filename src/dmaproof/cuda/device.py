"""Devices by PCI address, with their primary contexts kept for the life of the worker."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dmaproof.cuda.driver import cu


@dataclass(frozen=True, eq=False)  # one object a GPU: ``device`` caches them, so identity is equality
class Device:
    """One GPU of this process: driver handle, primary context, and what launches need to know."""

    bdf: str
    handle: Any
    context: Any
    multiprocessors: int
    compute_capability: tuple[int, int]

    def use(self) -> None:
        """Make this GPU's context the calling thread's."""
        cu.cuCtxSetCurrent(self.context)

    def attribute(self, name: str) -> int:
        """``CU_DEVICE_ATTRIBUTE_<name>`` (cuda.h, CUdevice_attribute)."""
        return _attribute(self.handle, name)


@functools.cache
def device(bdf: str) -> Device:
    """The GPU at ``bdf``, its primary context retained. Raises CudaError where there is none."""
    cu.cuInit(0)
    handle = cu.cuDeviceGetByPCIBusId(bdf.encode())
    context = cu.cuDevicePrimaryCtxRetain(handle)
    major, minor = (_attribute(handle, f"COMPUTE_CAPABILITY_{part}") for part in ("MAJOR", "MINOR"))
    return Device(bdf, handle, context, _attribute(handle, "MULTIPROCESSOR_COUNT"), (major, minor))


def _attribute(handle: Any, name: str) -> int:
    return int(cu.cuDeviceGetAttribute(getattr(cu.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}"), handle))


def can_access_peer(accessor: Device, owner: Device) -> bool:
    """Whether the driver says that ``accessor`` may map ``owner``'s memory."""
    return bool(cu.cuDeviceCanAccessPeer(accessor.handle, owner.handle))


@contextmanager
def peers(one: Device, other: Device) -> Iterator[None]:
    """Each maps the other's memory for as long as the block runs. Mappings are few (cuCtxEnablePeerAccess:
    CUDA_ERROR_TOO_MANY_PEERS), and one left behind would change what the next workload measures."""
    _map(one, other)
    try:
        _map(other, one)
        try:
            yield
        finally:
            _unmap(other, one)
    finally:
        _unmap(one, other)


def _map(accessor: Device, owner: Device) -> None:
    accessor.use()
    cu.cuCtxEnablePeerAccess(owner.context, 0)


def _unmap(accessor: Device, owner: Device) -> None:
    accessor.use()
    cu.cuCtxDisablePeerAccess(owner.context)


@dataclass(frozen=True, slots=True)
class Addressing:
    """How ``gpu`` may use memory that CUDA did not allocate: ``none``, ``hmm`` or ``ats``."""

    gpu: str
    mode: str


def addressing(gpu: str) -> Addressing:
    """From the device attributes (CUDA C++ Programming Guide, unified memory): pageable memory is accessible or not,
    through the host's page tables (ATS) or the driver's own (HMM)."""
    one = device(gpu)
    if not one.attribute("PAGEABLE_MEMORY_ACCESS"):
        return Addressing(gpu, "none")
    return Addressing(gpu, "ats" if one.attribute("PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES") else "hmm")
