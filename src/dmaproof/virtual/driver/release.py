"""Giving memory back, one allocation or all of a context's."""

from __future__ import annotations

import os

from dmaproof.virtual.driver.address_space import Allocation
from dmaproof.virtual.driver.driver import Driver
from dmaproof.virtual.driver.gpus import Context
from dmaproof.virtual.driver.host import MappedMemory, SparseMemory, unmap
from dmaproof.virtual.driver.pages import ManagedPages
from dmaproof.virtual.driver.pools import Pool


def release(driver: Driver, found: Allocation) -> None:
    """``found`` is no memory of CUDA any more; what backed it goes back to where it came from."""
    driver.space.remove(found)
    if found.exported is not None:
        os.close(found.exported)
    pool = found.backing if isinstance(found.backing, Pool) else None
    ours = found.by != "ipc" and not (pool is not None and pool.imported)
    if found.kind == "device" and ours:
        driver.devices[found.gpu].used_nbytes -= found.nbytes
    if pool is not None and ours:
        pool.take_back(found.nbytes)
    if isinstance(found.memory, ManagedPages):
        found.memory.close()
    elif found.kind == "pinned" and isinstance(found.memory, MappedMemory):
        unmap(found.memory.address, found.memory.nbytes)
        if isinstance(found.memory, SparseMemory):
            found.memory.close()


def release_memory(driver: Driver, context: Context) -> None:
    """All that goes with ``context``; with a primary one, what its GPU holds for nobody else as well."""
    for found in driver.space.all():
        nobodys = found.context is None and found.gpu == context.device.ordinal and found.by not in ("vmm", "graph")
        if found.context is context or (nobodys and context is context.device.context):
            release(driver, found)
