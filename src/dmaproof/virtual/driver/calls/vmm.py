"""Virtual memory management: memory by handle, reserved addresses, mappings, and rights to them.

Errors as cuMemCreate and its kin document them; a handle that is none is INVALID_VALUE there.
"""

from __future__ import annotations

import ctypes

from dmaproof.virtual.driver import physical
from dmaproof.virtual.driver.abi import call, put_int, put_u64
from dmaproof.virtual.driver.address_space import Allocation, Reservation
from dmaproof.virtual.driver.calls.locations import (
    Access,
    AllocationProp,
    Location,
    check_handle_types,
    checked_access,
    number_of,
    wish_of,
)
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import CuResult, DriverError, not_supported, require
from dmaproof.virtual.driver.host import map_fixed, protect_nothing
from dmaproof.virtual.driver.physical import GRANULARITY, POSIX_FD, Physical
from dmaproof.virtual.driver.rights import CPU

_OPTIONS = (0, 1)  # CU_MEM_ALLOC_GRANULARITY_MINIMUM, _RECOMMENDED
_PAGE = 4096


def _physical(handle: int) -> Physical:
    return driver().handles.get(handle, Physical, CuResult.INVALID_VALUE)


@call("cuMemGetAllocationGranularity", "ppi", needs="init")
def cu_mem_get_allocation_granularity(target: int, prop: int, option: int) -> None:
    """2 MiB, the large page of every GPU since Volta, also for host memory."""
    require(prop and option in _OPTIONS)
    wish_of(AllocationProp.from_address(prop))
    put_u64(target, GRANULARITY)


@call("cuMemCreate", "pzpQ", needs="init")
def cu_mem_create(target: int, nbytes: int, prop: int, flags: int) -> None:
    require(target and prop and nbytes and nbytes % GRANULARITY == 0 and not flags)
    wish = wish_of(AllocationProp.from_address(prop))
    check_handle_types(wish)
    put_u64(target, driver().handles.add(physical.create(driver(), wish, nbytes)))


@call("cuMemRelease", "Q", needs="init")
def cu_mem_release(handle: int) -> None:
    found = _physical(handle)
    found.handles -= 1
    if not found.handles:
        driver().handles.remove(handle)
        _let_go(found)


def _let_go(found: Physical) -> None:
    if found.handles or found.mappings:
        return
    if found.device is None:
        driver().synchronize_all()  # what is still queued may use memory that is about to be unmapped here
    found.let_go()


@call("cuMemRetainAllocationHandle", "pp", needs="init")
def cu_mem_retain_allocation_handle(target: int, va: int) -> None:
    """The handle that the memory was mapped by. One that was released since is given out anew."""
    found = driver().space.find(va)
    if found is None or not isinstance(found.backing, Physical):
        raise DriverError(CuResult.INVALID_VALUE)
    handle = driver().handles.of(found.backing) or driver().handles.add(found.backing)
    found.backing.handles += 1
    put_u64(target, handle)


@call("cuMemGetAllocationPropertiesFromHandle", "pQ", needs="init")
def cu_mem_get_allocation_properties_from_handle(prop: int, handle: int) -> None:
    found = _physical(handle)
    require(bool(prop))
    ctypes.memset(prop, 0, ctypes.sizeof(AllocationProp))
    written, wish = AllocationProp.from_address(prop), found.wish
    written.kind, written.handle_types = 1, wish.handle_types
    written.location = Location(wish.location, wish.number)


@call("cuMemAddressReserve", "pzzQQ", needs="init")
def cu_mem_address_reserve(target: int, nbytes: int, alignment: int, _hint: int, flags: int) -> None:
    """Where a hint is given the driver may choose another place, and this one does."""
    require(bool(target and nbytes) and nbytes % _PAGE == 0 and not flags and not alignment & (alignment - 1))
    put_u64(target, driver().space.reserve(nbytes, max(alignment, GRANULARITY)).va)


@call("cuMemAddressFree", "Qz", needs="init")
def cu_mem_address_free(va: int, nbytes: int) -> None:
    space = driver().space
    found = space.reservation(va)
    if found != Reservation(va, nbytes) or found is None or space.overlaps(va, nbytes):
        raise DriverError(CuResult.INVALID_VALUE)
    space.unreserve(found)


@call("cuMemMap", "QzzQQ", needs="init")
def cu_mem_map(va: int, nbytes: int, offset: int, handle: int, flags: int) -> None:
    """Nobody can use the range before cuMemSetAccess."""
    require(bool(nbytes) and not flags and not (va | nbytes | offset) % GRANULARITY)
    found, space = _physical(handle), driver().space
    reserved = space.reservation(va)
    require(reserved is not None and va + nbytes <= reserved.end and not space.overlaps(va, nbytes))
    require(offset + nbytes <= found.nbytes)
    if offset:
        raise not_supported("cuMemMap from an offset into the memory")
    kind, gpu = ("pinned", 0) if found.device is None else ("device", found.device.ordinal)
    one = Allocation(va, nbytes, kind, gpu, found.memory, by="vmm", access={}, handle_types=found.wish.handle_types)  # type: ignore[arg-type]
    one.backing = found
    found.mappings += 1
    space.add(one)


@call("cuMemUnmap", "Qz", needs="init")
def cu_mem_unmap(va: int, nbytes: int) -> None:
    """Whole mappings only."""
    for one in _mappings(va, nbytes):
        found = one.backing
        assert isinstance(found, Physical)  # noqa: S101
        if one.access and one.access.get(CPU):
            protect_nothing(one.va, one.nbytes)
        driver().space.remove(one)
        found.mappings -= 1
        _let_go(found)


def _mappings(va: int, nbytes: int) -> list[Allocation]:
    """The mappings that are the range, without a gap and none of them cut. INVALID_VALUE."""
    found, at = list[Allocation](), va
    while at < va + nbytes:
        found.append(driver().space.at(at, "device", "pinned", by=("vmm",)))
        at = found[-1].end
    require(bool(found) and at == va + nbytes)
    return found


@call("cuMemSetAccess", "Qzpz", needs="init")
def cu_mem_set_access(va: int, nbytes: int, descriptors: int, count: int) -> None:
    """All of it or, where any part of the wish is wrong, nothing."""
    require(bool(descriptors and count))
    mapped = _mappings(va, nbytes)
    wishes = (Access * count).from_address(descriptors)
    owners = [driver().devices[one.gpu] if one.kind == "device" else None for one in mapped]
    checked = [checked_access(wish, owner) for wish in wishes for owner in owners]
    for number, flags in dict.fromkeys(checked):
        for one in mapped:
            _grant(one, number, flags)


def _grant(one: Allocation, number: int, flags: int) -> None:
    assert one.access is not None  # noqa: S101
    if number == CPU:
        assert isinstance(one.backing, Physical) and one.backing.fd is not None  # noqa: S101, PT018
        map_fixed(one.va, one.backing.fd, one.nbytes, flags)
    one.access[number] = flags


@call("cuMemGetAccess", "ppQ", needs="init")
def cu_mem_get_access(target: int, location: int, va: int) -> None:
    require(bool(location))
    number = number_of(Location.from_address(location))
    found = driver().space.find(va)
    if found is None or found.access is None or found.by != "vmm":
        raise DriverError(CuResult.INVALID_VALUE)
    put_u64(target, found.access.get(number, 0))


@call("cuMemExportToShareableHandle", "pQiQ", needs="init")
def cu_mem_export_to_shareable_handle(target: int, handle: int, kind: int, flags: int) -> None:
    found = _physical(handle)
    require(bool(target) and not flags and bool(kind & found.wish.handle_types) and kind == POSIX_FD)
    put_int(target, found.export())


@call("cuMemImportFromShareableHandle", "ppi", needs="init")
def cu_mem_import_from_shareable_handle(target: int, exported: int, kind: int) -> None:
    if kind == physical.FABRIC:
        raise DriverError(CuResult.NOT_PERMITTED)  # no IMEX channel was given to this process
    require(bool(target) and kind == POSIX_FD)
    put_u64(target, driver().handles.add(physical.imported(driver(), exported)))
