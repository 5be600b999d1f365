"""The child's part of dmaproof.evidence.nvml_query: it asks NVML, call by call, and may be stuck or crash in any."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import pynvml

from dmaproof import bdf
from dmaproof.evidence.nvml_process import reason
from dmaproof.evidence.nvml_query import Matrix, NvmlGpu, NvmlState

# Values of nvml.h, as numbers: older pynvml lacks the newer names, and its NVML_P2P_CAPS_INDEX_READ is a tuple.
_READ, _WRITE = 0, 1
ADDRESSING = {0: "none", 1: "hmm", 2: "ats"}
ANCESTOR = {0: "internal", 10: "single", 20: "multiple", 30: "hostbridge", 40: "node", 50: "system"}
P2P = {
    0: "ok",
    1: "chipset-not-supported",
    2: "gpu-not-supported",
    3: "topology-not-supported",
    4: "disabled-by-regkey",
    5: "not-supported",
}
RECOVERY = {
    0: "none",
    1: "gpu-reset",
    2: "node-reboot",
    3: "drain-p2p",
    4: "drain-and-reset",
    5: "recover-imex-domain",
    6: "bus-reset",
    7: "system-reboot",
}
CLOCKS = {
    0x1: "idle",
    0x2: "applications-clocks",
    0x4: "sw-power-cap",
    0x8: "hw-slowdown",
    0x10: "sync-boost",
    0x20: "sw-thermal",
    0x40: "hw-thermal",
    0x80: "hw-power-brake",
    0x100: "display-clock",
}
"""nvmlClocksEventReason*, nvml.h."""
_RECOVERY_FIELD = 230  # NVML_FI_DEV_GET_GPU_RECOVERY_ACTION
_C2C_LINKS_FIELD, _C2C_ERRORS_FIELD = 170, 231  # NVML_FI_DEV_C2C_LINK_COUNT, NVML_FI_DEV_C2C_LINK_ERROR_INTR
_CORRECTABLE, _UNCORRECTABLE, _VOLATILE = 0, 1, 0  # nvmlMemoryErrorType_t, nvmlEccCounterType_t


def answer(say: Callable[[Mapping[str, Any]], None]) -> None:
    """The child's work."""
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        say({"unanswered": f"no NVML: {reason(error)}"})
        return
    handles = [_ask("nvmlDeviceGetHandleByIndex", index) for index in range(count)]
    state = NvmlState(
        driver_version=_ask("nvmlSystemGetDriverVersion"),
        gpus=tuple(_gpu(index) for index in range(count)),
        p2p_read=_matrix(handles, lambda a, b: _named(P2P, "nvmlDeviceGetP2PStatus", a, b, _READ)),
        p2p_write=_matrix(handles, lambda a, b: _named(P2P, "nvmlDeviceGetP2PStatus", a, b, _WRITE)),
        common_ancestor=_matrix(handles, lambda a, b: _named(ANCESTOR, "nvmlDeviceGetTopologyCommonAncestor", a, b)),
    )
    say(asdict(state))


def _ask(call: str, *args: Any) -> Any:
    """The answer of NVML's ``call``, or None where it has none: the library, the driver or the GPU does not know."""
    function = getattr(pynvml, call, None)
    if function is None:
        return None
    try:
        return function(*args)
    except pynvml.NVMLError:
        return None


def _named(names: Mapping[int, str], call: str, *args: Any) -> str | None:
    value = _ask(call, *args)
    return None if value is None else names.get(value, f"{value}")


def _matrix(handles: list[Any], between: Callable[[Any, Any], str | None]) -> Matrix:
    return tuple(tuple(None if a is b or a is None or b is None else between(a, b) for b in handles) for a in handles)


def _gpu(index: int) -> NvmlGpu:
    """A GPU that does not answer is known by what it says to the first question that reaches it."""
    handle = None
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        uuid = pynvml.nvmlDeviceGetUUID(handle)
    except pynvml.NVMLError as error:
        return NvmlGpu(index=index, error=reason(error), bdf=None if handle is None else _bdf(handle))
    memory = _ask("nvmlDeviceGetMemoryInfo", handle)
    capability = _ask("nvmlDeviceGetCudaComputeCapability", handle)
    rows = _ask("nvmlDeviceGetRemappedRows", handle)  # correctable, uncorrectable, pending, failed
    return NvmlGpu(
        index=index,
        uuid=uuid,
        bdf=_bdf(handle),
        name=_ask("nvmlDeviceGetName", handle),
        memory_nbytes=None if memory is None else memory.total,
        compute_capability=None if capability is None else "{}.{}".format(*capability),
        pcie_current_generation=_ask("nvmlDeviceGetCurrPcieLinkGeneration", handle),
        pcie_current_width=_ask("nvmlDeviceGetCurrPcieLinkWidth", handle),
        pcie_max_generation=_ask("nvmlDeviceGetMaxPcieLinkGeneration", handle),
        pcie_max_width=_ask("nvmlDeviceGetMaxPcieLinkWidth", handle),
        nvlinks_active=_nvlinks(handle),
        addressing=_named(ADDRESSING, "nvmlDeviceGetAddressingMode", handle),
        numa_node=_ask("nvmlDeviceGetNumaNodeId", handle),
        recovery_action=_recovery(handle),
        remap_pending=None if rows is None else bool(rows[2]),
        remap_failed=None if rows is None else bool(rows[3]),
        ecc_correctable=_ask("nvmlDeviceGetTotalEccErrors", handle, _CORRECTABLE, _VOLATILE),
        ecc_uncorrectable=_ask("nvmlDeviceGetTotalEccErrors", handle, _UNCORRECTABLE, _VOLATILE),
        pcie_replays=_ask("nvmlDeviceGetPcieReplayCounter", handle),
        c2c_errors=_c2c_errors(handle),
        clocks_event_reasons=_clocks(handle),
    )


def _bdf(handle: Any) -> str | None:
    info = _ask("nvmlDeviceGetPciInfo", handle)
    return None if info is None else bdf.parse(info.busId)


def _nvlinks(handle: Any) -> int | None:
    """Links beyond those that a GPU has are invalid arguments; those that are not wired are not supported."""
    active = 0
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        try:
            active += pynvml.nvmlDeviceGetNvLinkState(handle, link) == pynvml.NVML_FEATURE_ENABLED
        except pynvml.NVMLError as error:
            if error.value == pynvml.NVML_ERROR_NOT_SUPPORTED:
                continue
            if error.value == pynvml.NVML_ERROR_INVALID_ARGUMENT and link:
                break
            return None
    return active


def _recovery(handle: Any) -> str | None:
    value = _field(handle, _RECOVERY_FIELD)
    return None if value is None else RECOVERY.get(value.uiVal, f"{value.uiVal}")


def _clocks(handle: Any) -> tuple[str, ...] | None:
    """Older libraries have the call under the name that it had before."""
    bits = _ask("nvmlDeviceGetCurrentClocksEventReasons", handle)
    bits = _ask("nvmlDeviceGetCurrentClocksThrottleReasons", handle) if bits is None else bits
    return None if bits is None else tuple(name for bit, name in CLOCKS.items() if bits & bit)


def _c2c_errors(handle: Any) -> int | None:
    """Of all C2C links together; None where the GPU has none, or one of them does not tell."""
    links = _field(handle, _C2C_LINKS_FIELD)
    if links is None or not links.uiVal:
        return None
    values = [_field(handle, (_C2C_ERRORS_FIELD, link)) for link in range(links.uiVal)]
    return None if None in values else sum(value.uiVal for value in values)


def _field(handle: Any, field: int | tuple[int, int]) -> Any:
    """The value of a field (or of a field and its scope), or None."""
    values = _ask("nvmlDeviceGetFieldValues", handle, [field])
    return None if values is None or values[0].nvmlReturn != pynvml.NVML_SUCCESS else values[0].value
