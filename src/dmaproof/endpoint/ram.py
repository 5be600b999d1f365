"""Pages of this process's memory whose physical address is known: what an endpoint may be aimed at without a driver.

Source: Documentation/admin-guide/mm/pagemap.rst. mlock(2) keeps a page in memory but not in place (compaction may move
it), so the address is read again when the page is left.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dmaproof.errors import EndpointError
from dmaproof.vfio.memory import address_of

PAGE_NBYTES = mmap.PAGESIZE
_PAGEMAP = Path("/proc/self/pagemap")
_ENTRY_NBYTES, _PRESENT, _FRAME = 8, 1 << 63, (1 << 55) - 1
_libc = ctypes.CDLL(None, use_errno=True)


class Page:
    """One locked page: ``content`` is its memory, ``physical`` its address on the memory bus."""

    def __init__(self, content: mmap.mmap) -> None:
        self.content = content
        self.physical = physical_address(address_of(content))

    def fill(self, data: bytes) -> None:
        self.content[: len(data)] = data

    def read(self) -> bytes:
        return self.content[:]

    def check_place(self) -> None:
        """Raises EndpointError where the kernel has moved the page: DMA to ``physical`` then met somebody else's."""
        now = physical_address(address_of(self.content))
        if now != self.physical:
            raise EndpointError(f"the kernel moved a locked page from {self.physical:#x} to {now:#x} during the test")


@contextmanager
def page() -> Iterator[Page]:
    """A page of zeros, locked. Free it after the endpoint can no longer reach it: inside this context come those of
    dmaproof.endpoint.mmio, whose end is also the end of bus mastering. Raises EndpointError."""
    content = mmap.mmap(-1, PAGE_NBYTES)
    content[:] = bytes(PAGE_NBYTES)  # a page that was never written is everybody's page of zeros
    address = address_of(content)
    if _libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(PAGE_NBYTES)) != 0:
        raise EndpointError(f"mlock of one page: {os.strerror(ctypes.get_errno())}; raise RLIMIT_MEMLOCK (ulimit -l)")
    try:
        one = Page(content)
        yield one
        one.check_place()
    finally:
        content.close()


def physical_address(virtual: int) -> int:
    """Where the page at ``virtual`` of this process lies; a mapping of a device's memory has an address, too. Raises
    EndpointError where the kernel does not tell: without CAP_SYS_ADMIN it shows zeros."""
    with _PAGEMAP.open("rb", buffering=0) as file:
        data = os.pread(file.fileno(), _ENTRY_NBYTES, virtual // PAGE_NBYTES * _ENTRY_NBYTES)
    entry = int.from_bytes(data, "little")
    if not entry & _PRESENT or not entry & _FRAME:
        why = "it is not in memory" if entry & _FRAME else "the kernel hides where it is: this needs root"
        raise EndpointError(f"physical address of {virtual:#x} is unknown: {why} ({_PAGEMAP})")
    return (entry & _FRAME) * PAGE_NBYTES + virtual % PAGE_NBYTES
