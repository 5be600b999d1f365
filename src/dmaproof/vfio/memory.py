"""Memory of this process that devices are given to read and write."""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Self

PAGE_NBYTES = mmap.PAGESIZE


def address_of(mapping: mmap.mmap) -> int:
    """Where this process sees the first byte of ``mapping``."""
    return ctypes.addressof(ctypes.c_char.from_buffer(mapping))


class Ram:
    """``nbytes`` (whole pages) of zeroed memory: private and anonymous, or of a memfd when ``shared``.

    What a device writes shows in ``data`` at once: DMA on the machines in question is coherent. Close it only after the
    mapping for the device is gone: the kernel keeps pages pinned, but at no address.
    """

    def __init__(self, nbytes: int, *, shared: bool = False) -> None:
        self.nbytes = -(-nbytes // PAGE_NBYTES) * PAGE_NBYTES
        self.fd = -1
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        if shared:
            self.fd, flags = os.memfd_create("dmaproof"), mmap.MAP_SHARED
            os.ftruncate(self.fd, self.nbytes)
        self._map = mmap.mmap(self.fd, self.nbytes, flags, mmap.PROT_READ | mmap.PROT_WRITE)
        self.address = address_of(self._map)
        self.data = memoryview(self._map)

    def close(self) -> None:
        self.data.release()
        self._map.close()
        if self.fd >= 0:
            os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
