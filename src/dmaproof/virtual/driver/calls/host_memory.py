"""Page-locked host memory: real memory of this process that every GPU can reach."""

from __future__ import annotations

from dmaproof.virtual.driver.abi import call, put_u32, put_u64
from dmaproof.virtual.driver.address_space import Allocation
from dmaproof.virtual.driver.chunks import CHUNK
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import CuResult, DriverError, not_supported
from dmaproof.virtual.driver.host import READ_WRITE, MappedMemory, SparseMemory, map_anonymous, readable
from dmaproof.virtual.driver.release import release

_PORTABLE, _DEVICEMAP, _WRITECOMBINED = 1, 2, 4
_IO_MEMORY, _READ_ONLY = 4, 8
PAGE = 4096


def map_pinned(length: int) -> MappedMemory:
    """Whole pages of fresh memory."""
    return SparseMemory(length) if length >= CHUNK else MappedMemory(map_anonymous(length, READ_WRITE), length)


def allocate_pinned(target: int, nbytes: int, flags: int) -> None:
    if not nbytes or flags & ~(_PORTABLE | _DEVICEMAP | _WRITECOMBINED):
        raise DriverError(CuResult.INVALID_VALUE)
    state = driver()
    context = state.context()
    memory = map_pinned(-(-nbytes // PAGE) * PAGE)
    found = Allocation(memory.address, nbytes, "pinned", context.device.ordinal, memory, flags, context=context)
    put_u64(target, state.space.add(found).va)


@call("cuMemHostAlloc", "pzI")
def cu_mem_host_alloc(target: int, nbytes: int, flags: int) -> None:
    allocate_pinned(target, nbytes, flags)


@call("cuMemAllocHost", "pz", since=3020)
def cu_mem_alloc_host(target: int, nbytes: int) -> None:
    allocate_pinned(target, nbytes, 0)


@call("cuMemFreeHost", "p")
def cu_mem_free_host(address: int) -> None:
    """Waits for the device first: a transfer in flight may use the memory."""
    state = driver()
    state.space.at(address, "pinned", by=("alloc",))
    state.synchronize_all()
    release(state, state.space.at(address, "pinned", by=("alloc",)))


@call("cuMemHostRegister", "pzI")
def cu_mem_host_register(address: int, nbytes: int, flags: int) -> None:
    if not address or not nbytes or flags & ~(_PORTABLE | _DEVICEMAP | _IO_MEMORY | _READ_ONLY):
        raise DriverError(CuResult.INVALID_VALUE)
    if flags & _READ_ONLY:  # CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED is 0
        raise DriverError(CuResult.NOT_SUPPORTED)
    if flags & _IO_MEMORY:
        raise not_supported("cuMemHostRegister with CU_MEMHOSTREGISTER_IOMEMORY")
    state = driver()
    context = state.context()
    if state.space.overlaps(address, nbytes):
        raise DriverError(CuResult.HOST_MEMORY_ALREADY_REGISTERED)
    if state.space.is_device_address(address) or not readable(address, nbytes):
        raise DriverError(CuResult.INVALID_VALUE)
    memory = MappedMemory(address, nbytes)
    found = Allocation(address, nbytes, "registered", context.device.ordinal, memory, flags, context=context)
    state.space.add(found)


@call("cuMemHostUnregister", "p")
def cu_mem_host_unregister(address: int) -> None:
    state = driver()
    try:
        found = state.space.at(address, "registered")
    except DriverError:
        raise DriverError(CuResult.HOST_MEMORY_NOT_REGISTERED) from None
    state.synchronize_all()
    release(state, found)


@call("cuMemHostGetDevicePointer", "ppI", since=3020)
def cu_mem_host_get_device_pointer(target: int, address: int, flags: int) -> None:
    """With unified addressing the device uses the host's address."""
    if flags or _host(address) is None:
        raise DriverError(CuResult.INVALID_VALUE)
    put_u64(target, address)


@call("cuMemHostGetFlags", "pp")
def cu_mem_host_get_flags(target: int, address: int) -> None:
    """Of memory that CUDA allocated; registered memory has none to tell (cuMemHostGetFlags)."""
    found = _host(address)
    if found is None or found.kind != "pinned":
        raise DriverError(CuResult.INVALID_VALUE)
    put_u32(target, found.flags)


def _host(address: int) -> Allocation | None:
    found = driver().space.find(address)
    return found if found and found.kind in ("pinned", "registered") and found.by == "alloc" else None
