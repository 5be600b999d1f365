"""Device calls: which GPUs there are and how they reach each other."""

from __future__ import annotations

import ctypes
import uuid

from dmaproof import bdf
from dmaproof.errors import UsageError
from dmaproof.virtual.driver.abi import call, get_text, put_int, put_text, put_u64
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import CuResult, DriverError, not_supported

# CUdevice_P2PAttribute (cuda.h)
_PERFORMANCE_RANK, _ACCESS_SUPPORTED, _NATIVE_ATOMICS, _ARRAYS, _PARTIAL_ATOMICS = 1, 2, 3, 4, 5


@call("cuDeviceGetCount", "p", needs="init")
def cu_device_get_count(count: int) -> None:
    put_int(count, len(driver().devices))


@call("cuDeviceGet", "pi", needs="init")
def cu_device_get(device: int, ordinal: int) -> None:
    put_int(device, driver().device(ordinal).ordinal)


@call("cuDeviceGetByPCIBusId", "pp", needs="init")
def cu_device_get_by_pci_bus_id(device: int, text: int) -> None:
    try:
        found = driver().by_bdf.get(bdf.parse(get_text(text)))
    except UsageError:
        raise DriverError(CuResult.INVALID_VALUE) from None
    if found is None:
        raise DriverError(CuResult.INVALID_DEVICE)
    put_int(device, found.ordinal)


@call("cuDeviceGetPCIBusId", "pii", needs="init")
def cu_device_get_pci_bus_id(text: int, room: int, device: int) -> None:
    put_text(text, room, driver().device(device).bdf.upper())


@call("cuDeviceGetName", "pii", needs="init")
def cu_device_get_name(text: int, room: int, device: int) -> None:
    put_text(text, room, driver().device(device).gpu.product or "virtual GPU")


@call("cuDeviceGetUuid", "pi", needs="init")
def cu_device_get_uuid(target: int, device: int) -> None:
    one = driver().device(device)
    known = (one.gpu.uuid or "").removeprefix("GPU-")
    value = uuid.UUID(known) if known else uuid.uuid5(uuid.NAMESPACE_OID, one.bdf)
    ctypes.memmove(target, value.bytes, 16)


@call("cuDeviceTotalMem", "pi", since=3020, needs="init")
def cu_device_total_mem(nbytes: int, device: int) -> None:
    put_u64(nbytes, driver().device(device).memory_nbytes)


@call("cuDeviceCanAccessPeer", "pii", needs="init")
def cu_device_can_access_peer(can: int, device: int, peer: int) -> None:
    put_int(can, int(reaches(device, peer)))


@call("cuDeviceGetP2PAttribute", "piii", needs="init")
def cu_device_get_p2p_attribute(value: int, attribute: int, source: int, target: int) -> None:
    if source == target:
        raise DriverError(CuResult.INVALID_DEVICE)
    path = driver().fabric.path(driver().device(source), driver().device(target))
    fast = path is not None and path.kind in ("nvlink", "c2c")
    known = {
        _PERFORMANCE_RANK: 0 if fast else 1,
        _ACCESS_SUPPORTED: int(reaches(source, target)),
        _NATIVE_ATOMICS: int(fast and reaches(source, target)),
        _ARRAYS: int(reaches(source, target)),
    }
    if attribute not in known:
        raise not_supported(f"cuDeviceGetP2PAttribute attribute {attribute}")
    put_int(value, known[attribute])


def reaches(device: int, peer: int) -> bool:
    """Whether GPU ``device`` can map the memory of GPU ``peer``."""
    state = driver()
    path = state.fabric.path(state.device(device), state.device(peer))
    return device != peer and path is not None and path.peer
