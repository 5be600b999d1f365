"""Called by the stub at the first NVML call of a process: fills its table with this package's functions."""

from __future__ import annotations

import ctypes
import traceback
from collections.abc import Callable
from ctypes import CFUNCTYPE, c_char_p, c_int, c_long, c_void_p
from typing import Any

from dmaproof.virtual.nvml import device, events, health, peers, session, system  # noqa: F401 - they register their functions
from dmaproof.virtual.nvml.codes import NOT_IMPLEMENTED, TEXTS, Code, NvmlError
from dmaproof.virtual.nvml.registry import IMPLEMENTED, Implementation
from dmaproof.virtual.nvml.stub import SONAME

_kept: list[Any] = []
"""Callbacks and strings whose addresses C holds: they live as long as the process."""


def install() -> None:
    library = ctypes.CDLL(SONAME)  # loaded already: the same one
    names = _names(library)
    table = (c_void_p * len(names)).in_dll(library, "dmaproof_nvml_table")
    for number, name in enumerate(names):
        if name in IMPLEMENTED:
            table[number] = _address(_callback(*IMPLEMENTED[name]))
    table[names.index("nvmlErrorString")] = _address(CFUNCTYPE(c_long, c_int)(_error_string(names)))
    library.dmaproof_nvml_installed()


def _names(library: ctypes.CDLL) -> list[str]:
    """The stub's own list: it may have been built for another pynvml than this process has."""
    found = []
    array = (c_char_p * (1 << 16)).in_dll(library, "dmaproof_nvml_names")
    for name in array:
        if name is None:
            break
        found.append(name.decode())
    return found


def _address(callback: Any) -> int:
    _kept.append(callback)
    return ctypes.cast(callback, c_void_p).value or 0


def _callback(implementation: Implementation, arguments: tuple[Any, ...]) -> Any:
    def call(*values: Any) -> int:
        try:
            implementation(*values)
        except NvmlError as error:
            return error.code
        except Exception:  # noqa: BLE001 - C cannot take an exception: ctypes would drop it and report success
            traceback.print_exc()
            return Code.UNKNOWN
        return Code.SUCCESS

    return CFUNCTYPE(c_int, *arguments)(call)


def _error_string(names: list[str]) -> Callable[[int], int]:
    texts = {int(code): text for code, text in TEXTS.items()}
    missing = {
        NOT_IMPLEMENTED + number: f"{name} is not implemented by the virtual driver"
        for number, name in enumerate(names)
    }
    strings = {code: ctypes.create_string_buffer(text.encode()) for code, text in {**texts, **missing}.items()}
    unknown = ctypes.create_string_buffer(b"Unknown Error")
    _kept.append((strings, unknown))
    return lambda code: ctypes.addressof(strings.get(code, unknown))
