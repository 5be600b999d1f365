"""Pools between processes: a pool is exported as a descriptor, each allocation of it by 64 bytes of data."""

from __future__ import annotations

import os

from dmaproof.virtual.driver import ipc, shared_files
from dmaproof.virtual.driver.abi import call, put_int, put_u64
from dmaproof.virtual.driver.address_space import Allocation
from dmaproof.virtual.driver.calls.pool import pool_behind
from dmaproof.virtual.driver.chunks import DeviceMemory
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import CuResult, DriverError
from dmaproof.virtual.driver.ipc import Handle
from dmaproof.virtual.driver.physical import FABRIC, POSIX_FD
from dmaproof.virtual.driver.pools import Pool
from dmaproof.virtual.driver.shared_files import Label


def _require(holds: bool) -> None:
    if not holds:
        raise DriverError(CuResult.INVALID_VALUE)


@call("cuMemPoolExportToShareableHandle", "ppiQ", needs="init")
def cu_mem_pool_export_to_shareable_handle(target: int, handle: int, kind: int, flags: int) -> None:
    pool = pool_behind(handle)
    _require(bool(target) and not flags and kind == POSIX_FD and bool(kind & pool.handle_types) and not pool.imported)
    put_int(target, os.dup(_file(pool)))


def _file(pool: Pool) -> int:
    """What stands for the pool in other processes: a file of which only the inode counts."""
    if pool.fd is None:
        pool.fd = shared_files.create(Label("pool", pool.device.bdf, 1, handle_types=pool.handle_types))
    return pool.fd


@call("cuMemPoolImportFromShareableHandle", "ppiQ", needs="init")
def cu_mem_pool_import_from_shareable_handle(target: int, exported: int, kind: int, flags: int) -> None:
    """At first for the GPU alone that has the memory: rights are each process's own to give."""
    if kind == FABRIC:
        raise DriverError(CuResult.NOT_PERMITTED)  # no IMEX channel was given to this process
    _require(bool(target) and kind == POSIX_FD and not flags)
    label = shared_files.label(exported)
    device = driver().by_bdf.get(label.place)
    if label.kind != "pool" or device is None:
        raise DriverError(CuResult.INVALID_VALUE)
    pool = Pool(device, handle_types=label.handle_types, fd=os.dup(exported), imported=True)
    put_u64(target, driver().handles.add(pool))


@call("cuMemPoolExportPointer", "pQ", needs="init")
def cu_mem_pool_export_pointer(target: int, va: int) -> None:
    found = driver().space.find(va)
    pool = found.backing if found is not None else None
    if not target or found is None or not isinstance(pool, Pool) or not pool.handle_types or pool.imported:
        raise DriverError(CuResult.INVALID_VALUE)
    assert isinstance(found.memory, DeviceMemory)  # noqa: S101
    if found.exported is None:
        label = Label("pooled", pool.device.bdf, found.nbytes, pool=os.fstat(_file(pool)).st_ino)
        found.exported = shared_files.create(label)
        found.memory.back(shared_files.content(found.exported))
    ipc.of_file(found.exported).write(target)


@call("cuMemPoolImportPointer", "ppp", needs="init")
def cu_mem_pool_import_pointer(target: int, handle: int, data: int) -> None:
    """An allocation of the very pool that ``handle`` was imported from."""
    pool = pool_behind(handle)
    _require(bool(target and data) and pool.imported and pool.fd is not None)
    assert pool.fd is not None  # noqa: S101
    fd, label = ipc.read(Handle.from_address(data)).open("pooled")
    try:
        _require(label.pool == os.fstat(pool.fd).st_ino)
        memory = DeviceMemory(label.nbytes)
        memory.back(shared_files.content(fd), keep=False)
    finally:
        os.close(fd)  # the mapping keeps the file
    space = driver().space
    va = space.device_address(label.nbytes)
    one = Allocation(va, label.nbytes, "device", pool.device.ordinal, memory, pool=handle, by="pool")
    one.access, one.backing = pool.access, pool
    put_u64(target, space.add(one).va)
