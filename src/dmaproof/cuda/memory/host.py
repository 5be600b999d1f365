"""Host memory of every kind, one function a kind: ``with HOST_KINDS["registered"](gpu, nbytes) as buffer``.

All of it is touched by a CPU near the GPU before anything is measured: memory lies where it is touched first.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal

import numpy as np

from dmaproof.cuda.device import Device
from dmaproof.cuda.driver import cu
from dmaproof.cuda.memory.both import managed
from dmaproof.cuda.memory.buffer import Buffer, view
from dmaproof.cuda.memory.plain import near, pinned
from dmaproof.cuda.memory.vmm import on_numa_node
from dmaproof.errors import Unsupported

HostKind = Literal["pinned", "registered", "pageable", "write-combined", "managed", "host-numa", "hugepages"]
_MAP_HUGETLB = 0x40000  # include/uapi/asm-generic/mman-common.h; Python's mmap has no name for it


@contextmanager
def write_combined(device: Device, nbytes: int) -> Iterator[Buffer]:
    """Page-locked, past the CPU's caches: fast to write, very slow to read (CU_MEMHOSTALLOC_WRITECOMBINED)."""
    device.use()
    flags = cu.CU_MEMHOSTALLOC_PORTABLE | cu.CU_MEMHOSTALLOC_DEVICEMAP | cu.CU_MEMHOSTALLOC_WRITECOMBINED
    with near(device.bdf):
        address = int(cu.cuMemHostAlloc(nbytes, flags))
    try:
        yield Buffer(address, nbytes, view(address, nbytes))
    finally:
        device.use()
        cu.cuMemFreeHost(address)


@contextmanager
def pageable(device: Device, nbytes: int) -> Iterator[Buffer]:
    """Of mmap(2), which the driver knows nothing of: it stages copies, and a copy's call may wait for it."""
    with _touched(device, nbytes, 0) as buffer:
        yield buffer


@contextmanager
def registered(device: Device, nbytes: int) -> Iterator[Buffer]:
    """The program's own pages, page-locked afterwards (cuMemHostRegister)."""
    with _touched(device, nbytes, 0) as buffer, _page_locked(device, buffer, mmap.PAGESIZE):
        yield buffer


@contextmanager
def huge_pages(device: Device, nbytes: int) -> Iterator[Buffer]:
    """Pages that were reserved for it (hugetlbfs), registered. Raises Unsupported where too few are free."""
    size, free = _huge_pages()
    wanted = -(-nbytes // size) if size else 0
    if not size or free < wanted:
        raise Unsupported(
            f"{free} huge pages of {size >> 10} KiB are free, {nbytes} bytes need {wanted}: "
            f"write {wanted} or more to /proc/sys/vm/nr_hugepages"
        )
    with _touched(device, wanted * size, _MAP_HUGETLB) as whole, _page_locked(device, whole, size):
        yield Buffer(whole.address, nbytes, view(whole.address, nbytes))


@contextmanager
def managed_on_host(device: Device, nbytes: int) -> Iterator[Buffer]:
    """Managed memory whose pages are at the CPU when it is handed out."""
    with managed(device, nbytes) as buffer:
        with near(device.bdf):
            buffer.cpu[:] = 0
        yield buffer


HOST_KINDS: dict[HostKind, Callable[[Device, int], AbstractContextManager[Buffer]]] = {
    "pinned": pinned,
    "registered": registered,
    "pageable": pageable,
    "write-combined": write_combined,
    "managed": managed_on_host,
    "host-numa": on_numa_node,
    "hugepages": huge_pages,
}
NOT_HELD: tuple[HostKind, ...] = ("pageable", "managed")
"""Kinds whose copies may wait for the stream as they are queued: a stream that is held would never come to them."""


@contextmanager
def _touched(device: Device, nbytes: int, flags: int) -> Iterator[Buffer]:
    """Whole pages of our own. A view would keep the mapping from being closed: there is none by numpy's own means."""
    whole = -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    try:
        mapping = mmap.mmap(-1, whole, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | flags)
    except OSError as error:
        raise Unsupported(f"no {whole} bytes of host memory (mmap flags {flags:#x}): {error.strerror}") from error
    with mapping:
        address = int(np.frombuffer(mapping, np.uint8).ctypes.data)
        buffer = Buffer(address, nbytes, view(address, nbytes))
        with near(device.bdf):
            buffer.cpu[:] = 0
        yield buffer


@contextmanager
def _page_locked(device: Device, buffer: Buffer, page: int) -> Iterator[None]:
    device.use()
    whole = -(-buffer.nbytes // page) * page
    cu.cuMemHostRegister(buffer.address, whole, cu.CU_MEMHOSTREGISTER_PORTABLE | cu.CU_MEMHOSTREGISTER_DEVICEMAP)
    try:
        yield
    finally:
        device.use()
        cu.cuMemHostUnregister(buffer.address)


def _huge_pages() -> tuple[int, int]:
    """Bytes of a huge page of the default size, and how many are free and not promised (/proc/meminfo)."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines() if ":" in line)
    size_kib, free, promised = (
        int(fields.get(name, "0").split()[0]) for name in ("Hugepagesize", "HugePages_Free", "HugePages_Rsvd")
    )
    return size_kib << 10, free - promised
