"""Private memory of the process at addresses where nothing else comes to be, and the calls that take it away again.

A hole that munmap(2) leaves among other mappings would be filled by the next allocation of anybody, and a GPU that is
to find nothing there found that. So regions lie far below all that the kernel hands out by itself.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dmaproof.cuda.memory import Words
from dmaproof.cuda.memory.buffer import view
from dmaproof.errors import Unsupported
from dmaproof.progress import note

_HINTS = range(0x0400_0000_0000, 0x2000_0000_0000, 0x10_0000_0000)
_MAP_PRIVATE, _MAP_ANONYMOUS, _MAP_FIXED_NOREPLACE = 0x02, 0x20, 0x100000
_MREMAP_MAYMOVE, _MREMAP_FIXED = 1, 2
NONE, READ, READ_WRITE = 0, 1, 3  # PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE
DONTNEED, FREE = 4, 8  # MADV_DONTNEED, MADV_FREE
_FAILED = (1 << 64) - 1

_libc = ctypes.CDLL(None, use_errno=True)
_POINTER, _SIZE, _INT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
for _name, _result, _arguments in (
    ("mmap", _POINTER, [_POINTER, _SIZE, _INT, _INT, _INT, ctypes.c_long]),
    ("mremap", _POINTER, [_POINTER, _SIZE, _SIZE, _INT, _POINTER]),
    ("munmap", _INT, [_POINTER, _SIZE]),
    ("mprotect", _INT, [_POINTER, _SIZE, _INT]),
    ("madvise", _INT, [_POINTER, _SIZE, _INT]),
):
    _function = getattr(_libc, _name)
    _function.restype, _function.argtypes = _result, _arguments


@dataclass(frozen=True, slots=True)
class Region:
    """``nbytes`` at ``address``. ``words`` is the CPU's view: a look there kills the process once nothing is there."""

    address: int
    nbytes: int
    words: Words


@contextmanager
def mapped(nbytes: int, protection: int = READ_WRITE) -> Iterator[Region]:
    """A region of fresh private memory; what is left of it after the block goes. Raises Unsupported without room."""
    address = _place(nbytes, protection)
    note("allocation", va=address, nbytes=nbytes, memory="mmap")
    try:
        yield Region(address, nbytes, view(address, nbytes).cpu)
    finally:
        _libc.munmap(address, nbytes)  # no mapping, or another that was moved here: all is the region's


def _place(nbytes: int, protection: int) -> int:
    for hint in _HINTS:
        flags = _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_FIXED_NOREPLACE
        found = _libc.mmap(hint, nbytes, protection, flags, -1, 0)
        if found == hint:
            return hint
        if found not in (None, _FAILED):  # a kernel before 4.17 takes the flag for a hint
            _libc.munmap(found, nbytes)
        elif ctypes.get_errno() != errno.EEXIST:
            break
    raise Unsupported(f"no {nbytes} bytes of addresses far from all other mappings")


def unmap(region: Region) -> None:
    _checked("munmap", _libc.munmap(region.address, region.nbytes))


def protect(region: Region, protection: int) -> None:
    _checked("mprotect", _libc.mprotect(region.address, region.nbytes, protection))


def advise(region: Region, advice: int) -> None:
    _checked("madvise", _libc.madvise(region.address, region.nbytes, advice))


def move(region: Region, onto: Region) -> None:
    """``region``'s pages come to be where ``onto`` is, in place of what is there; nothing is left where they were."""
    flags = _MREMAP_MAYMOVE | _MREMAP_FIXED
    _checked("mremap", _libc.mremap(region.address, region.nbytes, onto.nbytes, flags, onto.address))


def _checked(call: str, result: Any) -> None:
    if result in (-1, None, _FAILED):
        code = ctypes.get_errno()
        raise OSError(code, f"{call}: {os.strerror(code)}")
