"""From a C call to a Python function: the table of calls by name and version, and the one place where exceptions
become result codes.

A signature is one letter a parameter: ``p`` pointer or handle, ``i`` int, ``I`` unsigned int, ``z`` size_t, ``Q``
64-bit unsigned, ``B`` unsigned char, ``H`` unsigned short. ``L`` is a CUmemLocation by value: two ints, which every
64-bit C ABI that CUDA runs on passes as one 64-bit integer, type in the low half. ``X`` is an IPC handle by value.
"""

from __future__ import annotations

import ctypes
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from dmaproof.virtual.driver.errors import CuResult, DriverError, say
from dmaproof.virtual.driver.ipc import Handle
from dmaproof.virtual.driver.lock import LOCK

_TYPES: dict[str, Any] = {
    "p": ctypes.c_void_p,
    "i": ctypes.c_int,
    "I": ctypes.c_uint,
    "z": ctypes.c_size_t,
    "Q": ctypes.c_uint64,
    "B": ctypes.c_ubyte,
    "H": ctypes.c_ushort,
    "L": ctypes.c_uint64,
    "X": Handle,
}
Function = Callable[..., None]
Needs = Literal["nothing", "init", "context"]


@dataclass(frozen=True, slots=True)
class Call:
    """One function of the driver API, from API version ``since`` on (cuGetProcAddress's cudaVersion).

    It ``needs`` cuInit before it, or moreover a current context that no earlier error has killed, or neither.
    """

    name: str
    signature: str
    function: Function
    since: int
    needs: Needs


_calls: dict[str, list[Call]] = {}
_entries: dict[tuple[str, int], Any] = {}
_guard: list[Callable[[str, Needs], None]] = []


def call(name: str, signature: str, since: int = 0, needs: Needs = "context") -> Callable[[Function], Function]:
    """Register the decorated function as ``name``; it gets ints (null pointers as 0) and raises DriverError."""

    def register(function: Function) -> Function:
        _calls.setdefault(name, []).append(Call(name, signature, function, since, needs))
        return function

    return register


def guard_calls_with(check: Callable[[str, Needs], None]) -> None:
    """``check`` (name, needs) runs before every call and raises DriverError where what the call needs is not there."""
    _guard[:] = [check]


def resolve(name: str, version: int) -> int:
    """The address of ``name`` as API ``version`` knows it, or 0 where this driver has no such call."""
    known = [one for one in _calls.get(name, []) if one.since <= version]
    if not known:
        return 0
    found = max(known, key=lambda one: one.since)
    key = (name, found.since)
    if key not in _entries:
        # Kept for the life of the process: the caller keeps the address for as long.
        _entries[key] = ctypes.CFUNCTYPE(ctypes.c_int, *(_TYPES[letter] for letter in found.signature))(_enter(found))
    return ctypes.cast(_entries[key], ctypes.c_void_p).value or 0


def _enter(entered: Call) -> Callable[..., int]:
    function, needs = entered.function, entered.needs

    def enter(*arguments: Any) -> int:
        try:
            with LOCK:
                _guard[0](entered.name, needs)
                function(*(0 if argument is None else argument for argument in arguments))
        except DriverError as error:
            if error.message:
                say(f"{entered.name}: {error.message}")
            return int(error.code)
        except KeyboardInterrupt:
            say(f"{entered.name}: interrupted")
            return int(CuResult.UNKNOWN)
        except Exception:  # noqa: BLE001 - nothing may pass into C; a defect of the driver is told, never swallowed
            say(f"{entered.name} failed inside the driver (pid {os.getpid()}):\n{traceback.format_exc()}")
            return int(CuResult.UNKNOWN)
        return int(CuResult.SUCCESS)

    return enter


def put_int(address: int, value: int) -> None:
    """Store an int result; a null address is INVALID_VALUE."""
    ctypes.c_int.from_address(_checked(address)).value = value


def put_u32(address: int, value: int) -> None:
    ctypes.c_uint.from_address(_checked(address)).value = value


def put_u64(address: int, value: int) -> None:
    """Store a pointer, handle, size_t or 64-bit result."""
    ctypes.c_uint64.from_address(_checked(address)).value = value


def put_float(address: int, value: float) -> None:
    ctypes.c_float.from_address(_checked(address)).value = value


def put_text(address: int, room: int, text: str) -> None:
    """Store ``text`` as a C string, cut to ``room`` bytes with its terminator."""
    data = text.encode()[: max(room - 1, 0)] + b"\0"
    ctypes.memmove(_checked(address), data, len(data))


def get_text(address: int) -> str:
    return ctypes.string_at(_checked(address)).decode()


def get_u64(address: int) -> int:
    return ctypes.c_uint64.from_address(_checked(address)).value


def get_u32(address: int) -> int:
    return ctypes.c_uint.from_address(_checked(address)).value


def _checked(address: int) -> int:
    if not address:
        raise DriverError(CuResult.INVALID_VALUE)
    return address
