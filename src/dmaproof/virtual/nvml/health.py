"""What one device says of its links and its health: what the driver keeps of them, asked each time."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, Structure, c_int, c_longlong, c_uint, c_ulonglong, c_void_p
from typing import Any, ClassVar

from dmaproof.rig.hardware import Gpu
from dmaproof.virtual.nvml.codes import Code, NvmlError
from dmaproof.virtual.nvml.registry import nvml
from dmaproof.virtual.nvml.session import declared, gpu_of, put, session
from dmaproof.virtual.wire import Checkup, Vitals

_UINT, _COUNT = POINTER(c_uint), POINTER(c_ulonglong)
_UNCORRECTED, _ERROR_TYPES, _COUNTER_TYPES, _DRAM, _SRAM, _LOCATIONS = (
    1,
    2,
    2,
    2,
    7,
    8,
)  # nvmlMemoryErrorType_t and its kin
_AMPERE = 8
_VALUE_UINT, _VALUE_COUNT = 1, 3  # nvmlValueType_t: unsigned int, unsigned long long


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


def _vitals(gpu: Gpu) -> Vitals:
    return Vitals(**session().link.ask(Checkup(gpu=gpu.bdf)))


def _of(device: int | None) -> Vitals:
    return _vitals(gpu_of(device))


@nvml("nvmlDeviceGetCurrPcieLinkGeneration", arguments=(c_void_p, _UINT))
def current_generation(device: int | None, generation: Any) -> None:
    put(generation, declared(_of(device).generation))


@nvml("nvmlDeviceGetCurrPcieLinkWidth", arguments=(c_void_p, _UINT))
def current_width(device: int | None, width: Any) -> None:
    put(width, declared(_of(device).width))


@nvml("nvmlDeviceGetMaxPcieLinkGeneration", arguments=(c_void_p, _UINT))
def most_generation(device: int | None, generation: Any) -> None:
    """What GPU and slot together can do, whatever the link trained to."""
    put(generation, declared(gpu_of(device).pcie).generation)


@nvml("nvmlDeviceGetMaxPcieLinkWidth", arguments=(c_void_p, _UINT))
def most_width(device: int | None, width: Any) -> None:
    put(width, declared(gpu_of(device).pcie).width)


@nvml("nvmlDeviceGetPcieReplayCounter", arguments=(c_void_p, _UINT))
def replay_counter(device: int | None, replays: Any) -> None:
    put(replays, _of(device).pcie_replays)


@nvml("nvmlDeviceGetRemappedRows", arguments=(c_void_p, _UINT, _UINT, _UINT, _UINT))
def remapped_rows(device: int | None, correctable: Any, uncorrectable: Any, pending: Any, failed: Any) -> None:
    """GPUs before Ampere retire pages instead."""
    gpu = gpu_of(device)
    if int(declared(gpu.compute_capability).partition(".")[0]) < _AMPERE:
        raise NvmlError(Code.NOT_SUPPORTED)
    vitals = _vitals(gpu)
    values = (0, vitals.rows_remapped, int(vitals.remap_pending), int(vitals.remap_failed))
    for pointer, value in zip((correctable, uncorrectable, pending, failed), values, strict=True):
        put(pointer, value)


@nvml("nvmlDeviceGetEccMode", arguments=(c_void_p, _UINT, _UINT))
def ecc_mode(device: int | None, current: Any, pending: Any) -> None:
    """On, as on every GPU of the model (CU_DEVICE_ATTRIBUTE_ECC_ENABLED)."""
    gpu_of(device)
    put(current, 1)
    put(pending, 1)


@nvml("nvmlDeviceGetTotalEccErrors", arguments=(c_void_p, c_uint, c_uint, _COUNT))
def total_ecc_errors(device: int | None, kind: int, counter: int, count: Any) -> None:
    """Volatile and aggregate counts are alike: the model's GPUs are new."""
    if kind >= _ERROR_TYPES or counter >= _COUNTER_TYPES:
        raise NvmlError(Code.INVALID_ARGUMENT)
    put(count, _of(device).ecc_uncorrectable if kind == _UNCORRECTED else 0)


@nvml("nvmlDeviceGetMemoryErrorCounter", arguments=(c_void_p, c_uint, c_uint, c_uint, _COUNT))
def memory_errors(device: int | None, kind: int, counter: int, location: int, count: Any) -> None:
    """Errors whose row is remapped were in DRAM, others in the SMs' own storage, which is counted as SRAM."""
    if kind >= _ERROR_TYPES or counter >= _COUNTER_TYPES or location >= _LOCATIONS:
        raise NvmlError(Code.INVALID_ARGUMENT)
    vitals = _of(device)
    in_dram = min(vitals.ecc_uncorrectable, vitals.rows_remapped)
    found = {_DRAM: in_dram, _SRAM: vitals.ecc_uncorrectable - in_dram}
    if location not in found:
        raise NvmlError(Code.NOT_SUPPORTED)
    put(count, found[location] if kind == _UNCORRECTED else 0)


@nvml(
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetCurrentClocksThrottleReasons",
    arguments=(c_void_p, _COUNT),
)
def clocks_event_reasons(device: int | None, reasons: Any) -> None:
    """Nothing is too hot in the model: a GPU that is asked is idle, nvmlClocksEventReasonGpuIdle."""
    gpu_of(device)
    put(reasons, 1)


_FIELDS: dict[int, tuple[int, Callable[[Vitals], int]]] = {
    4: (_VALUE_COUNT, lambda vitals: vitals.ecc_uncorrectable),  # NVML_FI_DEV_ECC_DBE_VOL_TOTAL
    94: (_VALUE_UINT, lambda vitals: vitals.pcie_replays),  # NVML_FI_DEV_PCIE_REPLAY_COUNTER
    143: (_VALUE_UINT, lambda vitals: vitals.rows_remapped),  # NVML_FI_DEV_REMAPPED_UNC
    144: (_VALUE_UINT, lambda vitals: int(vitals.remap_pending)),  # NVML_FI_DEV_REMAPPED_PENDING
    145: (_VALUE_UINT, lambda vitals: int(vitals.remap_failed)),  # NVML_FI_DEV_REMAPPED_FAILURE
    230: (_VALUE_UINT, lambda vitals: vitals.recovery_action),  # NVML_FI_DEV_GET_GPU_RECOVERY_ACTION
}


@nvml("nvmlDeviceGetFieldValues", arguments=(c_void_p, c_int, POINTER(FieldValue)))
def field_values(device: int | None, count: int, values: Any) -> None:
    vitals = _of(device)
    for one in ctypes.cast(values, POINTER(FieldValue))[:count] if values else ():
        one.code = Code.NOT_SUPPORTED
        if one.field in _FIELDS:
            one.value_type, read = _FIELDS[one.field]
            one.value, one.code = read(vitals), Code.SUCCESS


@nvml("nvmlDeviceGetNvLinkState", arguments=(c_void_p, c_uint, _UINT))
def nvlink_state(device: int | None, link: int, active: Any) -> None:
    put(active, int(link not in _vitals(_linked(device, link)).nvlinks_down))


@nvml("nvmlDeviceGetNvLinkErrorCounter", arguments=(c_void_p, c_uint, c_uint, _COUNT))
def nvlink_errors(device: int | None, link: int, counter: int, value: Any) -> None:
    """nvmlNvLinkErrorCounter_t: replay, recovery, CRC of flits; those of data and ECC are of older links."""
    gpu = _linked(device, link)
    if counter >= len(_NVLINK_COUNTERS):
        raise NvmlError(Code.INVALID_ARGUMENT)
    name = _NVLINK_COUNTERS[counter]
    if name is None:
        raise NvmlError(Code.NOT_SUPPORTED)
    put(value, _vitals(gpu).nvlink_errors.get(str(link), {}).get(name, 0))


_NVLINK_COUNTERS = ("replay", "recovery", "crc", None, None)


def _linked(device: int | None, link: int) -> Gpu:
    """The GPU, where it has NVLink number ``link``."""
    gpu = gpu_of(device)
    if not gpu.nvlinks:
        raise NvmlError(Code.NOT_SUPPORTED)
    if link >= gpu.nvlinks:
        raise NvmlError(Code.INVALID_ARGUMENT)
    return gpu
