"""Initialization, version and error calls."""

from __future__ import annotations

from dmaproof.virtual.driver.abi import call, put_int, put_u64
from dmaproof.virtual.driver.driver import initialize
from dmaproof.virtual.driver.errors import CuResult, DriverError, description_address, name_address

_VERSION = 13090
"""A driver of CUDA 13 that loads the PTX of every 13.x compiler: a real one loads none newer than itself."""


@call("cuInit", "I", needs="nothing")
def cu_init(flags: int) -> None:
    if flags:
        raise DriverError(CuResult.INVALID_VALUE)
    initialize()


@call("cuDriverGetVersion", "p", needs="nothing")
def cu_driver_get_version(version: int) -> None:
    put_int(version, _VERSION)


@call("cuGetErrorName", "ip", needs="nothing")
def cu_get_error_name(code: int, text: int) -> None:
    put_u64(text, 0)
    put_u64(text, name_address(code))


@call("cuGetErrorString", "ip", needs="nothing")
def cu_get_error_string(code: int, text: int) -> None:
    put_u64(text, 0)
    put_u64(text, description_address(code))
