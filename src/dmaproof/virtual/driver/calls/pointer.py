"""What a pointer points to."""

from __future__ import annotations

from dmaproof.virtual.driver.abi import call, get_u32, get_u64, put_int, put_u32, put_u64
from dmaproof.virtual.driver.address_space import Allocation, Reservation
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import CuResult, DriverError, not_supported
from dmaproof.virtual.driver.rights import CPU, NONE, READ, READ_WRITE, may

# CUpointer_attribute and CUmemorytype (cuda.h)
_CONTEXT, _MEMORY_TYPE, _DEVICE_POINTER, _HOST_POINTER, _BUFFER_ID = 1, 2, 3, 4, 7
_IS_MANAGED, _ORDINAL, _LEGACY_IPC, _RANGE_START, _RANGE_SIZE, _MAPPED = 8, 9, 10, 11, 12, 13
_HANDLE_TYPES, _RDMA_CAPABLE, _ACCESS_FLAGS, _MEMPOOL = 14, 15, 16, 17
_MAPPING_SIZE, _MAPPING_BASE, _MEMORY_BLOCK = 18, 19, 20
_TYPE_HOST, _TYPE_DEVICE = 1, 2


@call("cuPointerGetAttribute", "piQ")
def cu_pointer_get_attribute(data: int, attribute: int, va: int) -> None:
    found = driver().space.find(va)
    if found is not None:
        _put(data, attribute, found, va)
    else:
        _put_unmapped(data, attribute, driver().space.reservation(va))


def _put_unmapped(data: int, attribute: int, reserved: Reservation | None) -> None:
    """Of addresses that are reserved and nothing more, their range can be told."""
    if reserved is None or attribute not in (_RANGE_START, _RANGE_SIZE, _MAPPED):
        raise DriverError(CuResult.INVALID_VALUE)
    if attribute == _MAPPED:
        put_int(data, 0)
    else:
        put_u64(data, reserved.va if attribute == _RANGE_START else reserved.nbytes)


@call("cuPointerGetAttributes", "IppQ")
def cu_pointer_get_attributes(count: int, attributes: int, data: int, va: int) -> None:
    """For a pointer that CUDA does not know, every attribute is null (and the ordinal -2)."""
    found = driver().space.find(va)
    for index in range(count):
        attribute, target = get_u32(attributes + 4 * index), get_u64(data + 8 * index)
        if found is not None:
            _put(target, attribute, found, va)
        elif attribute in (_CONTEXT, _DEVICE_POINTER, _HOST_POINTER, _RANGE_START, _RANGE_SIZE, _MEMPOOL):
            put_u64(target, 0)
        else:
            put_int(target, -2 if attribute == _ORDINAL else 0)


def _put(target: int, attribute: int, found: Allocation, va: int) -> None:
    wide = _wide(found, va)
    narrow = _narrow(found)
    if attribute in wide:
        value = wide[attribute]
        if value is None:
            raise DriverError(CuResult.INVALID_VALUE)
        put_u64(target, value)
    elif attribute in narrow:
        put_u32(target, narrow[attribute])
    elif attribute in (_IS_MANAGED, _MAPPED, _LEGACY_IPC, _RDMA_CAPABLE):
        legacy = found.kind == "device" and found.by == "alloc"
        put_int(
            target, int({_IS_MANAGED: found.kind == "managed", _MAPPED: True, _LEGACY_IPC: legacy}.get(attribute, 0))
        )
    else:
        raise not_supported(f"pointer attribute {attribute}")


def _wide(found: Allocation, va: int) -> dict[int, int | None]:
    """Memory of pools and mappings belongs to no context. Its range is what cuMemAddressReserve set aside."""
    context = driver().devices[found.gpu].context if found.by in ("alloc", "ipc") else None
    whole = (driver().space.reservation(va) if found.by == "vmm" else None) or found
    cpu_sees = found.kind != "device" and (found.access is None or found.access.get(CPU))
    return {
        _CONTEXT: context.handle if context else 0,
        _DEVICE_POINTER: va,
        _HOST_POINTER: va if cpu_sees else None,
        _BUFFER_ID: found.va,
        _RANGE_START: whole.va,
        _RANGE_SIZE: whole.nbytes,
        _HANDLE_TYPES: found.handle_types,
        _MEMPOOL: found.pool,
        _MAPPING_BASE: found.va,
        _MAPPING_SIZE: found.nbytes,
        _MEMORY_BLOCK: found.va,
    }


def _narrow(found: Allocation) -> dict[int, int]:
    host = found.kind in ("pinned", "registered")
    return {_MEMORY_TYPE: _TYPE_HOST if host else _TYPE_DEVICE, _ORDINAL: found.gpu, _ACCESS_FLAGS: _access(found)}


def _access(found: Allocation) -> int:
    """What the current context's GPU may do with it."""
    current = driver().context()
    if may(current, found, "write"):
        return READ_WRITE
    return READ if may(current, found, "read") else NONE
