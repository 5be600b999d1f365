"""A piece of memory: where it is, and the CPU's view of it."""

from __future__ import annotations

import ctypes
import mmap
from dataclasses import dataclass
from typing import Any

import numpy as np

from dmaproof.errors import UsageError

Words = np.ndarray[Any, np.dtype[np.uint32]]


@dataclass(frozen=True, slots=True)
class Buffer:
    """``nbytes`` at ``address``; ``words`` is the CPU's view of them, where it has one."""

    address: int
    nbytes: int
    words: Words | None = None

    @property
    def nwords(self) -> int:
        return self.nbytes // 4

    @property
    def cpu(self) -> Words:
        if self.words is None:
            raise UsageError("device memory has no CPU view: copy it first")
        return self.words


def view(address: int, nbytes: int) -> Buffer:
    """Memory of this process that somebody else keeps mapped, with the CPU's view of it."""
    words = np.ctypeslib.as_array((ctypes.c_uint32 * (nbytes // 4)).from_address(address))
    return Buffer(address, nbytes, words)


def address_of(mapping: mmap.mmap) -> int:
    """Where ``mapping`` is. Nothing looks at it any more: that would keep it from being closed."""
    return int(np.frombuffer(mapping, np.uint8).ctypes.data)
