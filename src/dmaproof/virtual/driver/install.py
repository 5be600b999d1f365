"""Loaded by the stub on the first CUDA call of a process: puts the driver behind its function names."""

from __future__ import annotations

import ctypes
from typing import Any

from dmaproof.virtual.driver import calls
from dmaproof.virtual.driver.abi import guard_calls_with, resolve
from dmaproof.virtual.driver.driver import check_needs

_PER_THREAD_DEFAULT_STREAM = 2  # CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM
_Resolver = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint64)
_kept: list[Any] = []


def install() -> None:
    """Hand the stub the resolver of function names. The callback lives as long as the process."""
    assert calls  # noqa: S101 - importing the package has registered every call
    guard_calls_with(check_needs)
    resolver = _Resolver(_resolve)
    _kept.append(resolver)
    # Found by soname: the loader has it open already, this call came out of it.
    stub = ctypes.CDLL("libcuda.so.1")
    stub.dmaproof_set_resolver.argtypes = [_Resolver]
    stub.dmaproof_set_resolver.restype = None
    stub.dmaproof_set_resolver(resolver)


def _resolve(name: bytes, version: int, flags: int) -> int | None:
    if flags & _PER_THREAD_DEFAULT_STREAM:
        return None  # stream 0 would mean another stream: not implemented, so no function at all
    return resolve(name.decode(), version) or None
