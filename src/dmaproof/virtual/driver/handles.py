"""Handles: the numbers by which a program names the driver's objects."""

from __future__ import annotations

from typing import Any, TypeVar

from dmaproof.virtual.driver.errors import CuResult, DriverError

T = TypeVar("T")
_FIRST, _STEP = 0x10_0000, 0x10
"""No handle is small: 0, 1 and 2 name default streams."""


class Handles:
    """Objects by handle. A number is never used twice, so a stale handle is an invalid one."""

    def __init__(self) -> None:
        self._objects: dict[int, Any] = {}
        self._next = _FIRST

    def add(self, one: object) -> int:
        handle, self._next = self._next, self._next + _STEP
        self._objects[handle] = one
        return handle

    def get(self, handle: int, kind: type[T], otherwise: CuResult = CuResult.INVALID_HANDLE) -> T:
        """The ``kind`` behind ``handle``; DriverError ``otherwise`` for anything else."""
        found = self._objects.get(handle)
        if not isinstance(found, kind):
            raise DriverError(otherwise)
        return found

    def of(self, one: object) -> int | None:
        """The handle that names ``one``, if it has any."""
        return next((handle for handle, found in self._objects.items() if found is one), None)

    def remove(self, handle: int) -> None:
        self._objects.pop(handle, None)
