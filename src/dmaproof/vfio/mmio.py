"""Registers of a device as memory of this process: a BAR through a VFIO device, or through sysfs ``resourceN``."""

from __future__ import annotations

import mmap
from typing import Self

from dmaproof.errors import DmaproofError
from dmaproof.vfio.memory import address_of


class Mmio:
    """``nbytes`` of ``fd`` from ``offset`` (a multiple of the page size), mapped shared.

    Each access is one aligned load or store of its width: devices tell a 4-byte access from two of 2 bytes. Reads of a
    BAR that cannot be reached return all ones; through VFIO with memory decode off the kernel sends SIGBUS instead.
    Raises DmaproofError where the mapping or an address is refused.
    """

    def __init__(self, fd: int, nbytes: int, offset: int = 0, subject: str = "registers") -> None:
        try:
            self._map = mmap.mmap(fd, nbytes, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=offset)
        except (OSError, ValueError) as error:
            raise DmaproofError(f"{subject}: cannot map {nbytes:#x} bytes at {offset:#x}: {error}") from None
        self.nbytes, self.subject = nbytes, subject
        self._bytes = memoryview(self._map)
        self._words, self._longs = self._bytes[: nbytes & ~3].cast("I"), self._bytes[: nbytes & ~7].cast("Q")

    def read32(self, offset: int) -> int:
        return self._words[self._index(offset, 4)]

    def write32(self, offset: int, value: int) -> None:
        self._words[self._index(offset, 4)] = value

    def read64(self, offset: int) -> int:
        return self._longs[self._index(offset, 8)]

    def write64(self, offset: int, value: int) -> None:
        self._longs[self._index(offset, 8)] = value

    def _index(self, offset: int, width: int) -> int:
        if offset % width or not 0 <= offset <= self.nbytes - width:
            raise DmaproofError(f"{self.subject}: no {width}-byte register at {offset:#x} of {self.nbytes:#x} bytes")
        return offset // width

    @property
    def address(self) -> int:
        """Where this process sees the first byte."""
        return address_of(self._map)

    def close(self) -> None:
        for view in (self._words, self._longs, self._bytes):
            view.release()
        self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
