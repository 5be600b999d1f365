"""nvmlReturn_t (nvml.h), and the private codes of functions that are not implemented."""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    SUCCESS = 0
    UNINITIALIZED = 1
    INVALID_ARGUMENT = 2
    NOT_SUPPORTED = 3
    NOT_FOUND = 6
    INSUFFICIENT_SIZE = 7
    DRIVER_NOT_LOADED = 9
    TIMEOUT = 10
    GPU_IS_LOST = 15
    ARGUMENT_VERSION_MISMATCH = 25
    UNKNOWN = 999


NOT_IMPLEMENTED = 3000
"""Plus the function's number in the stub's list of names."""

TEXTS = {
    Code.SUCCESS: "Success",
    Code.UNINITIALIZED: "Uninitialized",
    Code.INVALID_ARGUMENT: "Invalid Argument",
    Code.NOT_SUPPORTED: "Not Supported",
    Code.NOT_FOUND: "Not Found",
    Code.INSUFFICIENT_SIZE: "Insufficient Size",
    Code.DRIVER_NOT_LOADED: "Driver Not Loaded",
    Code.TIMEOUT: "Timeout",
    Code.GPU_IS_LOST: "GPU is lost",
    Code.ARGUMENT_VERSION_MISMATCH: "Argument version mismatch",
    Code.UNKNOWN: "Unknown Error",
}


class NvmlError(Exception):
    """Carries ``code`` back to the caller of an NVML function."""

    def __init__(self, code: Code) -> None:
        super().__init__(TEXTS[code])
        self.code = code
