"""CUresult: the codes this driver returns, their names and descriptions (cuda.h, enum CUresult)."""

from __future__ import annotations

import ctypes
import sys
from enum import IntEnum
from typing import Any


class CuResult(IntEnum):
    """The part of CUresult that this driver can return."""

    SUCCESS = 0
    INVALID_VALUE = 1
    OUT_OF_MEMORY = 2
    NOT_INITIALIZED = 3
    DEINITIALIZED = 4
    DEVICE_UNAVAILABLE = 46
    NO_DEVICE = 100
    INVALID_DEVICE = 101
    INVALID_IMAGE = 200
    INVALID_CONTEXT = 201
    MAP_FAILED = 205
    ECC_UNCORRECTABLE = 214
    PEER_ACCESS_UNSUPPORTED = 217
    INVALID_PTX = 218
    NVLINK_UNCORRECTABLE = 220
    CONTAINED = 226
    OPERATING_SYSTEM = 304
    INVALID_HANDLE = 400
    ILLEGAL_STATE = 401
    NOT_FOUND = 500
    NOT_READY = 600
    ILLEGAL_ADDRESS = 700
    LAUNCH_OUT_OF_RESOURCES = 701
    PEER_ACCESS_ALREADY_ENABLED = 704
    PEER_ACCESS_NOT_ENABLED = 705
    PRIMARY_CONTEXT_ACTIVE = 708
    CONTEXT_IS_DESTROYED = 709
    HOST_MEMORY_ALREADY_REGISTERED = 712
    HOST_MEMORY_NOT_REGISTERED = 713
    MISALIGNED_ADDRESS = 716
    LAUNCH_FAILED = 719
    NOT_PERMITTED = 800
    NOT_SUPPORTED = 801
    SYSTEM_NOT_READY = 802
    STREAM_CAPTURE_UNSUPPORTED = 900
    STREAM_CAPTURE_INVALIDATED = 901
    STREAM_CAPTURE_MERGE = 902
    STREAM_CAPTURE_UNMATCHED = 903
    STREAM_CAPTURE_UNJOINED = 904
    STREAM_CAPTURE_ISOLATION = 905
    STREAM_CAPTURE_IMPLICIT = 906
    CAPTURED_EVENT = 907
    STREAM_CAPTURE_WRONG_THREAD = 908
    GRAPH_EXEC_UPDATE_FAILURE = 910
    UNKNOWN = 999


_DESCRIPTIONS = {
    CuResult.SUCCESS: "no error",
    CuResult.INVALID_VALUE: "invalid argument",
    CuResult.OUT_OF_MEMORY: "out of memory",
    CuResult.NOT_INITIALIZED: "initialization error",
    CuResult.NO_DEVICE: "no CUDA-capable device is detected",
    CuResult.INVALID_DEVICE: "invalid device ordinal",
    CuResult.INVALID_CONTEXT: "invalid device context",
    CuResult.ECC_UNCORRECTABLE: "uncorrectable ECC error encountered",
    CuResult.PEER_ACCESS_UNSUPPORTED: "peer access is not supported between these two devices",
    CuResult.INVALID_PTX: "a PTX JIT compilation failed",
    CuResult.NVLINK_UNCORRECTABLE: "uncorrectable NVLink error detected during the execution",
    CuResult.CONTAINED: "memory contained error encountered",
    CuResult.INVALID_HANDLE: "invalid resource handle",
    CuResult.NOT_FOUND: "named symbol not found",
    CuResult.NOT_READY: "device not ready",
    CuResult.ILLEGAL_ADDRESS: "an illegal memory access was encountered",
    CuResult.PEER_ACCESS_ALREADY_ENABLED: "peer access is already enabled",
    CuResult.PEER_ACCESS_NOT_ENABLED: "peer access has not been enabled",
    CuResult.MISALIGNED_ADDRESS: "misaligned address",
    CuResult.LAUNCH_FAILED: "unspecified launch failure",
    CuResult.CONTEXT_IS_DESTROYED: "context is destroyed",
    CuResult.NOT_SUPPORTED: "operation not supported",
    CuResult.STREAM_CAPTURE_UNSUPPORTED: "operation not permitted when stream is capturing",
    CuResult.STREAM_CAPTURE_INVALIDATED: "operation failed due to a previous error during capture",
    CuResult.STREAM_CAPTURE_MERGE: "operation would result in a merge of separate capture sequences",
    CuResult.STREAM_CAPTURE_UNMATCHED: "capture was not ended in the same stream as it began",
    CuResult.STREAM_CAPTURE_UNJOINED: "capturing stream has unjoined work",
    CuResult.STREAM_CAPTURE_ISOLATION: "dependency created on uncaptured work in another stream",
    CuResult.STREAM_CAPTURE_IMPLICIT: "operation would make the legacy stream depend on a capturing blocking stream",
    CuResult.CAPTURED_EVENT: "operation not permitted on an event last recorded in a capturing stream",
    CuResult.STREAM_CAPTURE_WRONG_THREAD: ("attempt to terminate a thread-local capture sequence from another thread"),
    CuResult.GRAPH_EXEC_UPDATE_FAILURE: (
        "the graph update was not performed because it included changes which violated constraints specific to "
        "instantiated graph update"
    ),
    CuResult.UNKNOWN: "unknown error",
}

GPU_LOST = CuResult.UNKNOWN
"""What a context returns once its GPU fell off the bus. After Xid 79 applications report CUDA_ERROR_UNKNOWN, also from
calls that only read back (wilicc/gpu-burn issue 1; proteneer/timemachine pull request 1203); no code of its own exists.
"""


class DriverError(Exception):
    """A call that ends with ``code``. ``message``, where given, goes to stderr: CUresult has no room for it. Work may
    have other ``victims`` than the context of its stream."""

    def __init__(self, code: CuResult, message: str = "") -> None:
        super().__init__(f"{code.name}: {message}" if message else code.name)
        self.code, self.message = code, message
        self.victims: list[Any] = []


class NeverCompletesError(Exception):
    """The operation at the head of a stream will not complete: an engine waits for what does not come."""


def require(holds: object) -> None:
    """What the caller passed is right; INVALID_VALUE where not."""
    if not holds:
        raise DriverError(CuResult.INVALID_VALUE)


def not_supported(what: str) -> DriverError:
    """A call met with parameters that the virtual driver does not implement: loud, never a false success."""
    return DriverError(CuResult.NOT_SUPPORTED, f"not implemented by the virtual driver: {what}")


def say(message: str) -> None:
    """A message for whoever reads the process's stderr; the only channel a driver has beside its result codes."""
    sys.stderr.write(f"dmaproof virtual CUDA driver: {message}\n")
    sys.stderr.flush()


# C strings handed out stay valid for the life of the process.
_names: dict[int, tuple[ctypes.Array[ctypes.c_char], ctypes.Array[ctypes.c_char]]] = {
    int(code): (
        ctypes.create_string_buffer(("CUDA_SUCCESS" if code == 0 else f"CUDA_ERROR_{code.name}").encode()),
        ctypes.create_string_buffer(_DESCRIPTIONS.get(code, code.name.lower().replace("_", " ")).encode()),
    )
    for code in CuResult
}


def name_address(code: int) -> int:
    """The address of the code's name as a C string; DriverError INVALID_VALUE for an unknown code."""
    return ctypes.addressof(_known(code)[0])


def description_address(code: int) -> int:
    """The address of the code's description as a C string; DriverError INVALID_VALUE for an unknown code."""
    return ctypes.addressof(_known(code)[1])


def _known(code: int) -> tuple[ctypes.Array[ctypes.c_char], ctypes.Array[ctypes.c_char]]:
    if code not in _names:
        raise DriverError(CuResult.INVALID_VALUE)
    return _names[code]
