"""Host memory of every kind, one function a kind: ``with HOST_KINDS["registered"](gpu, nbytes) as buffer``.

All of it is touched by a CPU near the GPU before anything is measured: memory lies where it is touched first.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

from dmaproof.cuda.device import Device
from dmaproof.cuda.driver import cu
from dmaproof.cuda.memory import hugepages
from dmaproof.cuda.memory.both import managed
from dmaproof.cuda.memory.buffer import Buffer, address_of, view
from dmaproof.cuda.memory.plain import near, pinned
from dmaproof.cuda.memory.vmm import on_numa_node
from dmaproof.errors import Unsupported

HostKind = Literal["pinned", "registered", "pageable", "write-combined", "managed", "host-numa", "hugepages"]


def write_combined(device: Device, nbytes: int) -> AbstractContextManager[Buffer]:
    """Page-locked, past the CPU's caches: fast to write, very slow to read (CU_MEMHOSTALLOC_WRITECOMBINED)."""
    return pinned(device, nbytes, cu.CU_MEMHOSTALLOC_WRITECOMBINED)


@contextmanager
def pageable(device: Device, nbytes: int) -> Iterator[Buffer]:
    """Of mmap(2), which the driver knows nothing of: it stages copies, and a copy's call may wait for it."""
    try:
        mapping = mmap.mmap(-1, nbytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise Unsupported(f"no {nbytes} bytes of host memory: {error.strerror}") from error
    with mapping:
        yield _touched(device, mapping)


@contextmanager
def registered(device: Device, nbytes: int) -> Iterator[Buffer]:
    """The program's own pages, page-locked afterwards (cuMemHostRegister)."""
    with pageable(device, nbytes) as buffer, _page_locked(device, buffer):
        yield buffer


@contextmanager
def huge_pages(device: Device, nbytes: int) -> Iterator[Buffer]:
    """Pages that were reserved for it (hugetlbfs), registered. Raises Unsupported where too few are free."""
    with hugepages.mapped(nbytes) as mapping:
        whole = _touched(device, mapping)
        with _page_locked(device, whole):
            yield view(whole.address, nbytes)


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


def _touched(device: Device, mapping: mmap.mmap) -> Buffer:
    buffer = view(address_of(mapping), len(mapping))
    with near(device.bdf):
        buffer.cpu[:] = 0
    return buffer


@contextmanager
def _page_locked(device: Device, buffer: Buffer) -> Iterator[None]:
    device.use()
    whole = -(-buffer.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    cu.cuMemHostRegister(buffer.address, whole, cu.CU_MEMHOSTREGISTER_PORTABLE | cu.CU_MEMHOSTREGISTER_DEVICEMAP)
    try:
        yield
    finally:
        device.use()
        cu.cuMemHostUnregister(buffer.address)
