"""Versions, and finding devices."""

from __future__ import annotations

from ctypes import POINTER, c_char_p, c_int, c_uint, c_void_p
from typing import Any

from dmaproof import bdf
from dmaproof.errors import UsageError
from dmaproof.virtual.machine.nvrm import VERSION
from dmaproof.virtual.nvml.codes import Code, NvmlError
from dmaproof.virtual.nvml.registry import nvml
from dmaproof.virtual.nvml.session import gpu_of, handle, put, put_text, session, uuid_of

_CUDA_VERSION = 13020  # what driver 595 offers
_UINT, _DEVICE = POINTER(c_uint), POINTER(c_void_p)


@nvml("nvmlSystemGetDriverVersion", arguments=(c_void_p, c_uint))
def driver_version(buffer: int, nbytes: int) -> None:
    session()
    put_text(buffer, nbytes, VERSION)


@nvml("nvmlSystemGetNVMLVersion", arguments=(c_void_p, c_uint))
def nvml_version(buffer: int, nbytes: int) -> None:
    put_text(buffer, nbytes, f"{_CUDA_VERSION // 1000}.{VERSION}")


@nvml("nvmlSystemGetCudaDriverVersion", "nvmlSystemGetCudaDriverVersion_v2", arguments=(POINTER(c_int),))
def cuda_driver_version(version: Any) -> None:
    put(version, _CUDA_VERSION)


@nvml("nvmlDeviceGetCount_v2", arguments=(_UINT,))
def device_count(count: Any) -> None:
    put(count, len(session().gpus))


@nvml("nvmlDeviceGetHandleByIndex_v2", arguments=(c_uint, _DEVICE))
def handle_by_index(index: int, device: Any) -> None:
    if index >= len(session().gpus):
        raise NvmlError(Code.INVALID_ARGUMENT)
    _give(device, index)


@nvml("nvmlDeviceGetHandleByUUID", arguments=(c_char_p, _DEVICE))
def handle_by_uuid(uuid: bytes | None, device: Any) -> None:
    wanted = (uuid or b"").decode(errors="replace")
    _find(device, [uuid_of(index) for index in range(len(session().gpus))], wanted)


@nvml("nvmlDeviceGetHandleByPciBusId_v2", arguments=(c_char_p, _DEVICE))
def handle_by_pci_bus_id(address: bytes | None, device: Any) -> None:
    try:
        wanted = bdf.parse((address or b"").decode(errors="replace"))
    except UsageError:
        raise NvmlError(Code.INVALID_ARGUMENT) from None
    _find(device, [gpu.bdf for gpu in session().gpus], wanted)


def _find(device: Any, names: list[str], wanted: str) -> None:
    if wanted not in names:
        raise NvmlError(Code.NOT_FOUND)
    _give(device, names.index(wanted))


def _give(device: Any, index: int) -> None:
    gpu_of(handle(index))  # a lost GPU gives no handle
    put(device, handle(index))
