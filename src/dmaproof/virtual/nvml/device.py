"""What one device says of itself."""

from __future__ import annotations

from ctypes import POINTER, Structure, c_char, c_int, c_uint, c_ulonglong, c_void_p
from typing import Any, ClassVar

from dmaproof.rig.hardware import Gpu
from dmaproof.virtual.machine import products
from dmaproof.virtual.nvml.codes import Code, NvmlError
from dmaproof.virtual.nvml.registry import nvml
from dmaproof.virtual.nvml.session import declared, gpu_of, put, put_text, session, uuid_of

_UINT, _INT = POINTER(c_uint), POINTER(c_int)
_ADDRESSING = {"none": 0, "hmm": 1, "ats": 2}  # nvmlDeviceAddressingModeType_t
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
    put_text(buffer, nbytes, declared(gpu_of(device).product))


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
    total = declared(gpu_of(device).memory_nbytes)
    put(memory, Memory(total, total, 0))


@nvml("nvmlDeviceGetMemoryInfo_v2", arguments=(c_void_p, POINTER(MemoryV2)))
def memory_info_v2(device: int | None, memory: Any) -> None:
    total = declared(gpu_of(device).memory_nbytes)
    if memory and memory[0].version != _MEMORY_V2:
        raise NvmlError(Code.ARGUMENT_VERSION_MISMATCH)
    put(memory, MemoryV2(_MEMORY_V2, total, 0, total, 0))


@nvml("nvmlDeviceGetCudaComputeCapability", arguments=(c_void_p, _INT, _INT))
def compute_capability(device: int | None, major: Any, minor: Any) -> None:
    parts = declared(gpu_of(device).compute_capability).split(".")
    put(major, int(parts[0]))
    put(minor, int(parts[1]))


@nvml("nvmlDeviceGetNumaNodeId", arguments=(c_void_p, _INT))
def numa_node(device: int | None, node: Any) -> None:
    """Of the GPU's memory: only where that is a NUMA node."""
    gpu = gpu_of(device)
    put(node, declared(gpu.numa_node if session().node.addressing == "ats" else None))


@nvml("nvmlDeviceGetAddressingMode", arguments=(c_void_p, POINTER(AddressingMode)))
def addressing_mode(device: int | None, mode: Any) -> None:
    gpu_of(device)
    if mode and mode[0].version != _ADDRESSING_V1:
        raise NvmlError(Code.ARGUMENT_VERSION_MISMATCH)
    put(mode, AddressingMode(_ADDRESSING_V1, declared(_ADDRESSING.get(session().node.addressing))))
