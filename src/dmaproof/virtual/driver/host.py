"""Memory of this process: what the driver itself mapped, and what the program got elsewhere."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn

import numpy as np

from dmaproof.virtual.driver.chunks import Bytes, Sparse
from dmaproof.virtual.driver.errors import CuResult, DriverError

_libc = ctypes.CDLL(None, use_errno=True)
Missing = Callable[[int, Literal["read", "write"]], NoReturn]


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


for _function in (_libc.process_vm_readv, _libc.process_vm_writev):
    _function.restype = ctypes.c_ssize_t
    _function.argtypes = [
        ctypes.c_int,
        ctypes.POINTER(_Iovec),
        ctypes.c_ulong,
        ctypes.POINTER(_Iovec),
        ctypes.c_ulong,
        ctypes.c_ulong,
    ]


class MappedMemory:
    """Memory that stays mapped while anyone uses this object: ``address`` is where this process sees it."""

    def __init__(self, address: int, nbytes: int) -> None:
        self.address, self.nbytes = address, nbytes
        self._bytes: Bytes = np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address))

    def read(self, offset: int, nbytes: int) -> Bytes:
        return self._bytes[offset : offset + nbytes]

    def write(self, offset: int, data: Bytes) -> None:
        self._bytes[offset : offset + len(data)] = data


class SparseMemory(MappedMemory, Sparse):
    """``nbytes`` of fresh memory, of which the kernel knows what nobody has written yet: it reads as zeros.

    Programs pin gigabytes to measure copies and look at little of them. Raises DriverError OUT_OF_MEMORY.
    """

    def __init__(self, nbytes: int) -> None:
        self._fd = os.memfd_create("dmaproof-pinned", os.MFD_CLOEXEC)
        try:
            os.ftruncate(self._fd, nbytes)
            super().__init__(map_file(self._fd, nbytes, READ_WRITE), nbytes)
        except (OSError, DriverError):
            self.close()
            raise DriverError(CuResult.OUT_OF_MEMORY) from None

    def untouched(self, offset: int, nbytes: int) -> bool:
        """Whether nobody has touched any page of the range (lseek(2), SEEK_DATA)."""
        try:
            return os.lseek(self._fd, offset, os.SEEK_DATA) >= offset + nbytes
        except OSError:  # ENXIO: no data from there on
            return True

    def close(self) -> None:
        """Give up the file; the mapping is the caller's to unmap."""
        os.close(self._fd)


class SystemMemory:
    """The program's own memory from ``address`` on, which may not be there at all.

    The kernel moves the bytes (process_vm_readv(2) on this very process), so that a bad address is an error here as it
    is on a device, never a crash of the driver. ``missing(va, access)`` is called for the first byte that the program
    has taken away, and raises; without it, raises DriverError ILLEGAL_ADDRESS.
    """

    def __init__(self, address: int, missing: Missing | None = None) -> None:
        self.address, self._missing = address, missing

    def read(self, offset: int, nbytes: int) -> Bytes:
        data = np.empty(nbytes, np.uint8)
        self._move("read", data, offset)
        return data

    def write(self, offset: int, data: Bytes) -> None:
        self._move("write", np.ascontiguousarray(data), offset)

    def _move(self, access: Literal["read", "write"], data: Bytes, offset: int) -> None:
        function, done = (_libc.process_vm_readv if access == "read" else _libc.process_vm_writev), 0
        while done < len(data):
            left = len(data) - done
            near, far = _Iovec(data.ctypes.data + done, left), _Iovec(self.address + offset + done, left)
            moved = function(os.getpid(), ctypes.byref(near), 1, ctypes.byref(far), 1, 0)
            if moved <= 0:
                if self._missing is not None:
                    self._missing(self.address + offset + done, access)
                raise DriverError(CuResult.ILLEGAL_ADDRESS)
            done += moved


_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_MAP_PRIVATE_ANONYMOUS_NORESERVE = 0x02 | 0x20 | 0x4000
_MAP_SHARED, _MAP_FIXED = 0x01, 0x10
_MADV_DONTFORK = 10
NO_ACCESS, READ_WRITE = 0, 3  # PROT_NONE, PROT_READ | PROT_WRITE
_FAILED = (1 << 64) - 1


def map_anonymous(nbytes: int, protection: int) -> int:
    """The address of ``nbytes`` of fresh memory (mmap(2)); DriverError OUT_OF_MEMORY."""
    return _mapped(_libc.mmap(None, nbytes, protection, _MAP_PRIVATE_ANONYMOUS_NORESERVE, -1, 0))


def map_file(fd: int, nbytes: int, protection: int) -> int:
    """The address of a shared mapping of the first ``nbytes`` of ``fd``; DriverError OUT_OF_MEMORY."""
    return _mapped(_libc.mmap(None, nbytes, protection, _MAP_SHARED, fd, 0))


def map_fixed(address: int, fd: int, nbytes: int, protection: int) -> None:
    """Map the first ``nbytes`` of ``fd`` at ``address``, in place of what is there (MAP_FIXED). OUT_OF_MEMORY."""
    _mapped(_libc.mmap(address, nbytes, protection, _MAP_SHARED | _MAP_FIXED, fd, 0))


def protect_nothing(address: int, nbytes: int) -> None:
    """The range is addresses again that nobody may use."""
    _mapped(_libc.mmap(address, nbytes, NO_ACCESS, _MAP_PRIVATE_ANONYMOUS_NORESERVE | _MAP_FIXED, -1, 0))


def keep_from_children(address: int, nbytes: int) -> None:
    """A forked child has nothing there (madvise(2), MADV_DONTFORK)."""
    _libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(nbytes), _MADV_DONTFORK)


def unmap(address: int, nbytes: int) -> None:
    _libc.munmap(address, nbytes)


def readable(address: int, nbytes: int) -> bool:
    """Whether the first and the last byte of the program's memory there can be read."""
    memory = SystemMemory(address)
    try:
        memory.read(0, 1)
        memory.read(nbytes - 1, 1)
    except DriverError:
        return False
    return True


def exclusive(address: int) -> bool:
    """Whether the page at ``address`` can be made some one's alone: not where other processes may map it, nor in huge
    pages of the kernel's pool (mm/rmap.c, make_device_exclusive)."""
    found = next((one for one in _mappings() if one.start <= address < one.end), None)
    return found is not None and found.permissions.endswith("p") and "hugepage" not in found.name


def first_forbidden(address: int, nbytes: int) -> int | None:
    """The first address of the range that the program may not write; None where it may write all of it."""
    at = address
    for one in _mappings():
        if one.start <= at < one.end and one.permissions.startswith("rw"):
            at = one.end
        if at >= address + nbytes:
            return None
    return at


class _Mapping(NamedTuple):
    start: int
    end: int
    permissions: str
    name: str


def _mappings() -> Iterator[_Mapping]:
    """The mappings of this process, in order, as proc_pid_maps(5) has them."""
    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        span, permissions, _offset, _device, _inode, *name = line.split(maxsplit=5)
        start, _, end = span.partition("-")
        yield _Mapping(int(start, 16), int(end, 16), permissions, "".join(name))


def _mapped(address: int | None) -> int:
    if address is None or address == _FAILED:
        raise DriverError(CuResult.OUT_OF_MEMORY)
    return address
