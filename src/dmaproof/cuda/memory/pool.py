"""Stream-ordered memory of a pool of its own, which peers use by the pool's rights, not by cuCtxEnablePeerAccess."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dmaproof.cuda.device import Device
from dmaproof.cuda.driver import cu
from dmaproof.cuda.memory.buffer import Buffer
from dmaproof.cuda.memory.vmm import rights_of
from dmaproof.errors import Unsupported
from dmaproof.progress import note


@contextmanager
def from_pool(owner: Device, users: Sequence[Device], nbytes: int) -> Iterator[Buffer]:
    """``nbytes`` of ``owner``'s memory for itself and ``users``. Raises Unsupported where the GPU has no pools."""
    if not owner.attribute("MEMORY_POOLS_SUPPORTED"):
        raise Unsupported(f"{owner.bdf}: CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED is 0")
    owner.use()
    pool = cu.cuMemPoolCreate(_props(owner))
    try:
        if users:
            cu.cuMemPoolSetAccess(pool, rights_of(users), len(users))
        with _allocated(owner, pool, nbytes) as address:
            note("allocation", va=address, nbytes=nbytes, memory=f"device {owner.bdf} (pool)")
            yield Buffer(address, nbytes)
    finally:
        cu.cuMemPoolDestroy(pool)


@contextmanager
def _allocated(owner: Device, pool: Any, nbytes: int) -> Iterator[int]:
    """There for whoever comes after the ``with``: its stream has come to the allocation."""
    stream = cu.cuStreamCreate(1)  # CU_STREAM_NON_BLOCKING
    try:
        address = int(cu.cuMemAllocFromPoolAsync(nbytes, pool, stream))
        try:
            cu.cuStreamSynchronize(stream)
            yield address
        finally:
            owner.use()
            cu.cuMemFreeAsync(address, stream)
            cu.cuStreamSynchronize(stream)
    finally:
        cu.cuStreamDestroy(stream)


def _props(owner: Device) -> Any:
    props = cu.CUmemPoolProps()
    props.allocType = cu.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    props.location.type = cu.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    props.location.id = int(owner.handle)
    return props
