"""Memory and events of other processes (cuIpc...). Memory from pools, managed and mapped memory is refused, as real
drivers do: INVALID_VALUE (chelsea0x3b/cudarc issue 521; in the same process INVALID_CONTEXT, openucx/ucx pull request
11603)."""

from __future__ import annotations

import os

from dmaproof.virtual.driver import ipc, shared_files
from dmaproof.virtual.driver.abi import call, put_u64
from dmaproof.virtual.driver.address_space import Allocation
from dmaproof.virtual.driver.calls.device import reaches
from dmaproof.virtual.driver.chunks import DeviceMemory
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import CuResult, DriverError
from dmaproof.virtual.driver.gpus import Context, Device
from dmaproof.virtual.driver.ipc import Handle, Opened, SharedEvent
from dmaproof.virtual.driver.rights import READ_WRITE
from dmaproof.virtual.driver.shared_files import Label
from dmaproof.virtual.driver.streams import Event

_LAZY_ENABLE_PEER_ACCESS = 1
_DISABLE_TIMING, _INTERPROCESS = 2, 4


@call("cuIpcGetMemHandle", "pQ")
def cu_ipc_get_mem_handle(target: int, va: int) -> None:
    """Of the whole allocation, also where ``va`` points into it."""
    found = driver().space.find(va)
    if not target or found is None or found.kind != "device" or found.by != "alloc":
        raise DriverError(CuResult.INVALID_VALUE)
    assert isinstance(found.memory, DeviceMemory)  # noqa: S101
    if found.exported is None:
        place = driver().devices[found.gpu].bdf
        found.exported = shared_files.create(Label("memory", place, found.nbytes))
        found.memory.back(shared_files.content(found.exported))
    ipc.of_file(found.exported).write(target)


@call("cuIpcOpenMemHandle", "pXI")
def cu_ipc_open_mem_handle(target: int, handle: Handle, flags: int) -> None:
    """Again by the same context: the same address, to be closed as often as it was opened."""
    context, export = driver().context(), ipc.read(handle)
    if not target or flags != _LAZY_ENABLE_PEER_ACCESS:
        raise DriverError(CuResult.INVALID_VALUE)
    key = (export, context.handle)
    known = driver().opened.get(key)
    if known is not None and driver().space.find(known.allocation.va) is known.allocation:
        known.count += 1
    else:
        known = driver().opened[key] = Opened(_open(context, export))
    put_u64(target, known.allocation.va)


def _open(context: Context, export: ipc.Export) -> Allocation:
    fd, label = export.open("memory")
    try:
        owner = _reached(context, label)
        memory = DeviceMemory(label.nbytes)
        memory.back(shared_files.content(fd), keep=False)
    finally:
        os.close(fd)  # the mapping keeps the file
    space, rights = driver().space, {owner.ordinal: READ_WRITE, context.device.ordinal: READ_WRITE}
    va = space.device_address(label.nbytes)
    one = Allocation(va, label.nbytes, "device", owner.ordinal, memory, by="ipc", access=rights)
    one.context = context
    return space.add(one)


def _reached(context: Context, label: Label) -> Device:
    """The GPU whose memory it is. One that the context's GPU cannot reach is refused as cuCtxEnablePeerAccess does."""
    owner = driver().by_bdf.get(label.place)
    if owner is None:
        raise DriverError(CuResult.INVALID_DEVICE)
    if owner is not context.device and not reaches(context.device.ordinal, owner.ordinal):
        raise DriverError(CuResult.PEER_ACCESS_UNSUPPORTED)
    return owner


@call("cuIpcCloseMemHandle", "Q")
def cu_ipc_close_mem_handle(va: int) -> None:
    """The exporter's memory and others' mappings of it stay."""
    state = driver()
    context = state.context()
    found = state.space.at(va, "device", by=("ipc",))
    key, opened = next((key, one) for key, one in state.opened.items() if one.allocation is found)
    opened.count -= 1
    if not opened.count:
        state.synchronize_context(context)
        del state.opened[key]
        state.space.remove(found)


@call("cuIpcGetEventHandle", "pp")
def cu_ipc_get_event_handle(target: int, handle: int) -> None:
    event = driver().handles.get(handle, Event)
    if event.shared is None:
        raise DriverError(CuResult.INVALID_HANDLE)
    if not target:
        raise DriverError(CuResult.INVALID_VALUE)
    ipc.of_file(event.shared.fd).write(target)


@call("cuIpcOpenEventHandle", "pX")
def cu_ipc_open_event_handle(target: int, handle: Handle) -> None:
    context = driver().context()
    if not target:
        raise DriverError(CuResult.INVALID_VALUE)
    fd, _ = ipc.read(handle).open("event")
    event = Event(context, _DISABLE_TIMING | _INTERPROCESS, shared=SharedEvent(fd))
    put_u64(target, driver().handles.add(event))
