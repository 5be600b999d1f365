"""Memory by handle (CUDA driver API, virtual memory management): a GPU's, or that of a NUMA node of the host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dmaproof.cuda.device import Device
from dmaproof.cuda.driver import cu
from dmaproof.cuda.memory.buffer import Buffer, view
from dmaproof.errors import CudaError, Unsupported
from dmaproof.progress import note

_NOT_KNOWN = "CUDA_ERROR_INVALID_VALUE"
"""What a driver says of an attribute that is newer than itself."""


def supports(device: Device, attribute: str) -> bool:
    """Whether ``device`` says yes to a yes-or-no attribute; a driver that does not know it says no."""
    try:
        return bool(device.attribute(attribute))
    except CudaError as error:
        if error.name != _NOT_KNOWN:
            raise
        return False


@contextmanager
def on_device_by_handle(owner: Device, users: Sequence[Device], nbytes: int) -> Iterator[Buffer]:
    """``nbytes`` of ``owner``'s memory, mapped for itself and ``users`` by cuMemSetAccess alone, and exportable as a
    descriptor. Raises Unsupported where the GPU has no such memory."""
    if not supports(owner, "VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED"):
        raise Unsupported(f"{owner.bdf}: CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED is 0")
    kind = cu.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    prop = wish(kind, int(owner.handle))
    prop.requestedHandleTypes = cu.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
    with _mapped(prop, rights_of([owner, *users]), nbytes) as address:
        note("allocation", va=address, nbytes=nbytes, memory=f"device {owner.bdf} (vmm)")
        yield Buffer(address, nbytes)


@contextmanager
def on_numa_node(device: Device, nbytes: int) -> Iterator[Buffer]:
    """Host memory of ``device``'s NUMA node, for it and the CPU. Raises Unsupported where the driver has none."""
    if not supports(device, "HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED"):
        raise Unsupported(f"{device.bdf}: CU_DEVICE_ATTRIBUTE_HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED is 0")
    number = max(device.attribute("HOST_NUMA_ID"), 0)  # -1 where the system has no NUMA; cuMemCreate wants 0 then
    host = cu.CUmemLocationType.CU_MEM_LOCATION_TYPE_HOST_NUMA
    with _mapped(wish(host, number), [*rights_of([device]), _right(host, number)], nbytes) as address:
        yield view(address, nbytes)


def exported(address: int) -> int:
    """A descriptor of the memory mapped at ``address``, for another process to import."""
    handle = cu.cuMemRetainAllocationHandle(address)
    try:
        kind = cu.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
        return int(cu.cuMemExportToShareableHandle(handle, kind, 0))
    finally:
        cu.cuMemRelease(handle)


@contextmanager
def imported(fd: int, users: Sequence[Device], nbytes: int) -> Iterator[Buffer]:
    """``nbytes`` of what another process exported as ``fd``, which stays the caller's, mapped for ``users``."""
    kind = cu.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
    handle = cu.cuMemImportFromShareableHandle(fd, kind)
    try:
        size = _rounded(cu.cuMemGetAllocationPropertiesFromHandle(handle), nbytes)
        with mapped(handle, rights_of(users), size) as address:
            yield Buffer(address, nbytes)
    finally:
        cu.cuMemRelease(handle)


@contextmanager
def _mapped(prop: Any, rights: Sequence[Any], nbytes: int) -> Iterator[int]:
    size = _rounded(prop, nbytes)
    handle = cu.cuMemCreate(size, prop, 0)
    try:
        with mapped(handle, rights, size) as address:
            yield address
    finally:
        cu.cuMemRelease(handle)


def _rounded(prop: Any, nbytes: int) -> int:
    """Up to the granularity that the driver asks for."""
    minimum = cu.CUmemAllocationGranularity_flags.CU_MEM_ALLOC_GRANULARITY_MINIMUM
    granularity = int(cu.cuMemGetAllocationGranularity(prop, minimum))
    return -(-nbytes // granularity) * granularity


@contextmanager
def mapped(handle: Any, rights: Sequence[Any], size: int) -> Iterator[int]:
    """The address of the memory behind ``handle``, ``size`` bytes (a multiple of its granularity), with ``rights``.
    Unmapped before the addresses go (cuMemAddressFree)."""
    address = int(cu.cuMemAddressReserve(size, 0, 0, 0))
    try:
        cu.cuMemMap(address, size, 0, handle, 0)
        try:
            cu.cuMemSetAccess(address, size, list(rights), len(rights))
            yield address
        finally:
            cu.cuMemUnmap(address, size)
    finally:
        cu.cuMemAddressFree(address, size)


def wish(kind: Any, number: int) -> Any:
    """A wish for memory at a place (CUmemAllocationProp)."""
    prop = cu.CUmemAllocationProp()
    prop.type = cu.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    prop.location.type, prop.location.id = kind, number
    return prop


def rights_of(users: Sequence[Device]) -> list[Any]:
    """The rights of GPUs to read and write."""
    return [_right(cu.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE, int(one.handle)) for one in users]


def _right(kind: Any, number: int) -> Any:
    """The right of a place to read and write (CUmemAccessDesc)."""
    right = cu.CUmemAccessDesc()
    right.location.type, right.location.id = kind, number
    right.flags = cu.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE
    return right
