"""Pools between processes: a pool is exported as a descriptor, each allocation of it by 64 bytes of data."""

from __future__ import annotations

import os

from dmaproof.virtual.driver import ipc, shared_files
from dmaproof.virtual.driver.abi import call, put_int, put_u64
from dmaproof.virtual.driver.address_space import Allocation
from dmaproof.virtual.driver.calls.pool import new_pool, pool_behind
from dmaproof.virtual.driver.chunks import DeviceMemory
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import CuResult, DriverError, require
from dmaproof.virtual.driver.host import READ_WRITE, MappedMemory, map_file
from dmaproof.virtual.driver.ipc import Handle
from dmaproof.virtual.driver.physical import DEVICE, FABRIC, HOST_NUMA, POSIX_FD
from dmaproof.virtual.driver.pool_files import file_of, label_of
from dmaproof.virtual.driver.pools import PINNED, Place, Pool
from dmaproof.virtual.wire import HOST


@call("cuMemPoolExportToShareableHandle", "ppiQ", needs="init")
def cu_mem_pool_export_to_shareable_handle(target: int, handle: int, kind: int, flags: int) -> None:
    pool = pool_behind(handle)
    require(target and not flags and kind == POSIX_FD and kind & pool.handle_types and not pool.imported)
    put_int(target, os.dup(file_of(pool)))


@call("cuMemPoolImportFromShareableHandle", "ppiQ", needs="init")
def cu_mem_pool_import_from_shareable_handle(target: int, exported: int, kind: int, flags: int) -> None:
    """At first for the GPU alone that has the memory, or the host: rights are each process's own to give."""
    if kind == FABRIC:
        raise DriverError(CuResult.NOT_PERMITTED)  # no IMEX channel was given to this process
    require(target and kind == POSIX_FD and not flags)
    label = shared_files.label(exported)
    device = driver().by_bdf.get(label.place)
    require(label.kind == "pool" and (device or label.place == HOST))
    place = Place(PINNED, HOST_NUMA, label.numa) if device is None else Place(PINNED, DEVICE, device.ordinal)
    pool = new_pool(place, handle_types=label.handle_types, fd=os.dup(exported))
    put_u64(target, driver().handles.add(pool))


@call("cuMemPoolExportPointer", "pQ", needs="init")
def cu_mem_pool_export_pointer(target: int, va: int) -> None:
    found = driver().space.find(va)
    pool = found.backing if found is not None else None
    if not target or found is None or not isinstance(pool, Pool) or not pool.handle_types or pool.imported:
        raise DriverError(CuResult.INVALID_VALUE)
    if found.exported is None:
        assert isinstance(found.memory, DeviceMemory)  # noqa: S101 - the host's has its file from the start
        found.exported = shared_files.create(label_of(pool, found.nbytes))
        found.memory.back(shared_files.content(found.exported))
    ipc.of_file(found.exported).write(target)


@call("cuMemPoolImportPointer", "ppp", needs="init")
def cu_mem_pool_import_pointer(target: int, handle: int, data: int) -> None:
    """An allocation of the very pool that ``handle`` was imported from."""
    pool = pool_behind(handle)
    require(target and data and pool.imported and pool.fd is not None)
    assert pool.fd is not None  # noqa: S101
    fd, label = ipc.read(Handle.from_address(data)).open("pooled")
    try:
        require(label.pool == os.fstat(pool.fd).st_ino)
        one = _imported(pool, fd, label.nbytes)
    finally:
        os.close(fd)  # the mapping keeps the file
    one.by, one.pool, one.access, one.backing = "pool", handle, pool.access, pool
    put_u64(target, driver().space.add(one).va)


def _imported(pool: Pool, fd: int, nbytes: int) -> Allocation:
    if pool.device is None:
        mapped = MappedMemory(map_file(fd, nbytes, READ_WRITE), nbytes)
        return Allocation(mapped.address, nbytes, "pinned", 0, mapped)
    memory = DeviceMemory(nbytes)
    memory.back(shared_files.content(fd), keep=False)
    return Allocation(driver().space.device_address(nbytes), nbytes, "device", pool.device.ordinal, memory)
