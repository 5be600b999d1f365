"""What one device says of itself."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_char, c_int, c_longlong, c_uint, c_ulonglong, c_void_p
from typing import Any, ClassVar

from dmaproof.rig.model import Gpu
from dmaproof.virtual.machine import products
from dmaproof.virtual.nvml.codes import Code, NvmlError
from dmaproof.virtual.nvml.registry import nvml
from dmaproof.virtual.nvml.session import gpu_of, put, put_text, session, uuid_of

_UINT, _INT = POINTER(c_uint), POINTER(c_int)
_ADDRESSING = {"none": 0, "hmm": 1, "ats": 2}  # nvmlDeviceAddressingModeType_t
_FIELD_RECOVERY_ACTION, _RECOVERY_NONE, _VALUE_UINT = 230, 0, 1
_MEMORY_V2, _ADDRESSING_V1 = 0x2000028, 0x1000008


class PciInfo(Structure):
    """nvmlPciInfo_t"""

    _fields_: ClassVar = [
        ("bus_id_legacy", c_char * 16),
        ("domain", c_uint),
        ("bus", c_uint),
        ("device", c_uint),
        ("pci_device_id", c_uint),
        ("pci_subsystem_id", c_uint),
        ("bus_id", c_char * 32),
    ]


class Memory(Structure):
    """nvmlMemory_t, bytes"""

    _fields_: ClassVar = [("total", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong)]


class MemoryV2(Structure):
    """nvmlMemory_v2_t, bytes"""

    _fields_: ClassVar = [
        ("version", c_uint),
        ("total", c_ulonglong),
        ("reserved", c_ulonglong),
        ("free", c_ulonglong),
        ("used", c_ulonglong),
    ]


class AddressingMode(Structure):
    """nvmlDeviceAddressingMode_t"""

    _fields_: ClassVar = [("version", c_uint), ("value", c_uint)]


class FieldValue(Structure):
    """nvmlFieldValue_t; of the union only its unsigned int is used."""

    _fields_: ClassVar = [
        ("field", c_uint),
        ("scope", c_uint),
        ("timestamp", c_longlong),
        ("latency_usec", c_longlong),
        ("value_type", c_uint),
        ("code", c_uint),
        ("value", c_ulonglong),
    ]


def _known(value: Any) -> Any:
    """What the rig declares; NvmlError(NOT_SUPPORTED) for what it leaves open."""
    if value is None:
        raise NvmlError(Code.NOT_SUPPORTED)
    return value


@nvml("nvmlDeviceGetIndex", "nvmlDeviceGetMinorNumber", arguments=(c_void_p, _UINT))
def index(device: int | None, number: Any) -> None:
    put(number, _index(gpu_of(device)))


def _index(gpu: Gpu) -> int:
    return session().gpus.index(gpu)


@nvml("nvmlDeviceGetUUID", arguments=(c_void_p, c_void_p, c_uint))
def uuid(device: int | None, buffer: int, nbytes: int) -> None:
    put_text(buffer, nbytes, uuid_of(_index(gpu_of(device))))


@nvml("nvmlDeviceGetName", arguments=(c_void_p, c_void_p, c_uint))
def name(device: int | None, buffer: int, nbytes: int) -> None:
    put_text(buffer, nbytes, _known(gpu_of(device).product))


@nvml("nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetPciInfo", arguments=(c_void_p, POINTER(PciInfo)))
def pci_info(device: int | None, info: Any) -> None:
    gpu = gpu_of(device)
    domain, bus, rest = gpu.bdf.split(":")
    identity = products.gpu(gpu.product)
    code = identity.device << 16 | identity.vendor
    legacy, long = f"{domain}:{bus}:{rest}".upper(), f"{int(domain, 16):08X}:{bus}:{rest}".upper()
    slot = int(rest.partition(".")[0], 16)
    put(info, PciInfo(legacy.encode(), int(domain, 16), int(bus, 16), slot, code, code, long.encode()))


@nvml("nvmlDeviceGetMemoryInfo", arguments=(c_void_p, POINTER(Memory)))
def memory_info(device: int | None, memory: Any) -> None:
    """All of it free: allocations live in each process's driver library, and the machine does not see them."""
    total = _known(gpu_of(device).memory_nbytes)
    put(memory, Memory(total, total, 0))


@nvml("nvmlDeviceGetMemoryInfo_v2", arguments=(c_void_p, POINTER(MemoryV2)))
def memory_info_v2(device: int | None, memory: Any) -> None:
    total = _known(gpu_of(device).memory_nbytes)
    if memory and memory[0].version != _MEMORY_V2:
        raise NvmlError(Code.ARGUMENT_VERSION_MISMATCH)
    put(memory, MemoryV2(_MEMORY_V2, total, 0, total, 0))


@nvml("nvmlDeviceGetCudaComputeCapability", arguments=(c_void_p, _INT, _INT))
def compute_capability(device: int | None, major: Any, minor: Any) -> None:
    parts = _known(gpu_of(device).compute_capability).split(".")
    put(major, int(parts[0]))
    put(minor, int(parts[1]))


@nvml("nvmlDeviceGetNumaNodeId", arguments=(c_void_p, _INT))
def numa_node(device: int | None, node: Any) -> None:
    """Of the GPU's memory: only where that is a NUMA node."""
    gpu = gpu_of(device)
    put(node, _known(gpu.numa_node if session().node.addressing == "ats" else None))


@nvml("nvmlDeviceGetCurrPcieLinkGeneration", "nvmlDeviceGetMaxPcieLinkGeneration", arguments=(c_void_p, _UINT))
def link_generation(device: int | None, generation: Any) -> None:
    put(generation, _known(gpu_of(device).pcie).generation)


@nvml("nvmlDeviceGetCurrPcieLinkWidth", "nvmlDeviceGetMaxPcieLinkWidth", arguments=(c_void_p, _UINT))
def link_width(device: int | None, width: Any) -> None:
    put(width, _known(gpu_of(device).pcie).width)


@nvml("nvmlDeviceGetPcieReplayCounter", arguments=(c_void_p, _UINT))
def replay_counter(device: int | None, replays: Any) -> None:
    """The model's links lose no packets: they are up or down."""
    gpu_of(device)
    put(replays, 0)


@nvml("nvmlDeviceGetAddressingMode", arguments=(c_void_p, POINTER(AddressingMode)))
def addressing_mode(device: int | None, mode: Any) -> None:
    gpu_of(device)
    if mode and mode[0].version != _ADDRESSING_V1:
        raise NvmlError(Code.ARGUMENT_VERSION_MISMATCH)
    put(mode, AddressingMode(_ADDRESSING_V1, _known(_ADDRESSING.get(session().node.addressing))))


@nvml("nvmlDeviceGetFieldValues", arguments=(c_void_p, c_int, POINTER(FieldValue)))
def field_values(device: int | None, count: int, values: Any) -> None:
    """Only the recovery action: a GPU that answers needs none in this model."""
    gpu_of(device)
    for one in ctypes.cast(values, POINTER(FieldValue))[:count] if values else ():
        one.code = Code.NOT_SUPPORTED
        if one.field == _FIELD_RECOVERY_ACTION:
            one.value_type, one.value, one.code = _VALUE_UINT, _RECOVERY_NONE, Code.SUCCESS
