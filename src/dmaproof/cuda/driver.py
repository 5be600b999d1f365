"""The driver API with its errors raised: ``cu.cuMemAlloc(nbytes)`` returns the pointer or raises CudaError.

Everything else (enums, structures) passes through from cuda.bindings.driver, so code reads as the CUDA
documentation does. The binding is imported by the first use, not by importing this module.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from dmaproof.errors import CudaError, NodeError


@functools.cache
def _binding() -> ModuleType:
    return importlib.import_module("cuda.bindings.driver")


def _explain(result: Any) -> str:
    status, text = _binding().cuGetErrorString(result)
    return text.decode() if int(status) == 0 and text else "no description"


def _checked(name: str, call: Callable[..., tuple[Any, ...]]) -> Callable[..., Any]:
    @functools.wraps(call)
    def checked(*args: Any) -> Any:
        result, *values = _answer(call, args)
        if int(result) != 0:
            raise CudaError(name, getattr(result, "name", str(result)), int(result), _explain(result))
        return values[0] if len(values) == 1 else (tuple(values) or None)

    return checked


def _answer(call: Callable[..., tuple[Any, ...]], args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The call's answer. The first call of a process looks for the driver; cuda-pathfinder says where it looked."""
    try:
        return call(*args)
    except importlib.import_module("cuda.pathfinder").DynamicLibNotFoundError as error:
        raise NodeError(
            "no CUDA driver: libcuda.so.1 was not found; install the NVIDIA driver of this machine's GPUs, "
            "or run on a virtual rig (--rig=virtual:hgx-h100)"
        ) from error


class _Driver:
    """cuda.bindings.driver; functions named ``cu...`` raise CudaError and drop the status from what they return."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(_binding(), name)
        if name.startswith("cu") and callable(value) and not isinstance(value, type):
            value = _checked(name, value)
        setattr(self, name, value)
        return value


cu = _Driver()


def raw(name: str) -> Callable[..., tuple[Any, ...]]:
    """The unchecked call ``name``, for callers to whom an error status is an answer (cuEventQuery: not ready)."""
    call: Callable[..., tuple[Any, ...]] = getattr(_binding(), name)
    return call
