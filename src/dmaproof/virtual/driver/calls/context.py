"""Primary contexts, the calling thread's current context, and peer access."""

from __future__ import annotations

import ctypes

from dmaproof.virtual.driver.abi import call, put_int, put_u32, put_u64
from dmaproof.virtual.driver.calls.device import reaches
from dmaproof.virtual.driver.capture import refuse_waiting
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import GPU_LOST, CuResult, DriverError, not_supported
from dmaproof.virtual.driver.gpus import Context, Device
from dmaproof.virtual.driver.release import release_memory

_API_VERSION = 3020  # of every context since CUDA 3.2
_CREATE_PARAMS_NBYTES = 24  # CUctxCreateParams (cuda.h): two pointers and a count; all zero asks for a regular context
_CREATE_FLAGS = 0xFF  # CU_CTX_FLAGS_MASK (cuda.h)
_LEAST_PRIORITY, _GREATEST_PRIORITY = 0, -5


@call("cuDevicePrimaryCtxRetain", "pi", needs="init")
def cu_device_primary_ctx_retain(target: int, device: int) -> None:
    one = driver().device(device)
    if one.context is None:
        one.context = _opened(one)
    one.context.uses += 1
    put_u64(target, one.context.handle)


def _opened(device: Device) -> Context:
    presence = driver().link.inquire(device.bdf, context=True)
    if presence.state != "present":
        raise DriverError(GPU_LOST if presence.state == "lost" else CuResult[presence.code])
    return Context(device, driver())


@call("cuDevicePrimaryCtxRelease", "i", needs="init")
def cu_device_primary_ctx_release(device: int) -> None:
    one = driver().device(device)
    if one.context is None:
        raise DriverError(CuResult.INVALID_CONTEXT)
    one.context.uses -= 1
    if one.context.uses == 0:
        _destroy(one.context)


@call("cuDevicePrimaryCtxReset", "i", needs="init")
def cu_device_primary_ctx_reset(device: int) -> None:
    context = driver().device(device).context
    if context is not None:
        _destroy(context)


def _destroy(context: Context) -> None:
    """The context and all that is in it go; other contexts lose their mapping of its memory with it. To threads that
    have it current it stays so, and of no use (cuda.h, cuCtxDestroy)."""
    state, device = driver(), context.device
    context.fail(CuResult.CONTEXT_IS_DESTROYED)
    context.error = CuResult.CONTEXT_IS_DESTROYED  # also of one that an error had killed before
    release_memory(state, context)
    state.handles.remove(context.handle)
    for stream in context.streams:
        state.handles.remove(stream.handle)
    for other in [one for each in state.devices for one in each.contexts]:
        other.mapped.discard(context)
    device.contexts.remove(context)
    if device.context is context:
        device.context = None


@call("cuCtxCreate", "pIi", since=3020, needs="init")
def cu_ctx_create_v2(target: int, flags: int, device: int) -> None:
    cu_ctx_create_v4(target, 0, flags, device)


@call("cuCtxCreate", "ppIi", since=12050, needs="init")
def cu_ctx_create_v4(target: int, parameters: int, flags: int, device: int) -> None:
    """The new context is the calling thread's current one."""
    if parameters and any(ctypes.string_at(parameters, _CREATE_PARAMS_NBYTES)):
        raise not_supported("cuCtxCreate with execution affinity or a CIG context")
    if flags & ~_CREATE_FLAGS:
        raise DriverError(CuResult.INVALID_VALUE)
    context = _opened(driver().device(device))
    driver().stack.append(context)
    put_u64(target, context.handle)


@call("cuCtxDestroy", "p", needs="init")
def cu_ctx_destroy(handle: int) -> None:
    """Primary contexts are released or reset instead."""
    context = _context(handle)
    if context is context.device.context:
        raise DriverError(CuResult.INVALID_CONTEXT)
    if driver().current is context:
        driver().stack.pop()
    _destroy(context)


def _context(handle: int) -> Context:
    """INVALID_CONTEXT for a handle of none, or of one that was destroyed."""
    try:
        return driver().handles.get(handle, Context)
    except DriverError:
        raise DriverError(CuResult.INVALID_CONTEXT) from None


@call("cuDevicePrimaryCtxGetState", "ipp", needs="init")
def cu_device_primary_ctx_get_state(device: int, flags: int, active: int) -> None:
    one = driver().device(device)
    put_u32(flags, one.flags)
    put_int(active, int(one.context is not None))


@call("cuDevicePrimaryCtxSetFlags", "iI", needs="init")
def cu_device_primary_ctx_set_flags(device: int, flags: int) -> None:
    driver().device(device).flags = flags


@call("cuCtxSetCurrent", "p", needs="init")
def cu_ctx_set_current(handle: int) -> None:
    stack = driver().stack
    context = _context(handle) if handle else None
    if stack:
        stack.pop()
    if context is not None:
        stack.append(context)


@call("cuCtxGetCurrent", "p", needs="init")
def cu_ctx_get_current(target: int) -> None:
    current = driver().current
    put_u64(target, current.handle if current else 0)


@call("cuCtxPushCurrent", "p", needs="init")
def cu_ctx_push_current(handle: int) -> None:
    driver().stack.append(_context(handle))


@call("cuCtxPopCurrent", "p", needs="init")
def cu_ctx_pop_current(target: int) -> None:
    if not driver().stack:
        raise DriverError(CuResult.INVALID_CONTEXT)
    popped = driver().stack.pop()
    if target:
        put_u64(target, popped.handle if popped else 0)


def _named(handle: int) -> Context:
    """The context behind ``handle``, or the current one for null."""
    return _context(handle) if handle else driver().context()


@call("cuCtxGetDevice", "p")
def cu_ctx_get_device(target: int) -> None:
    put_int(target, driver().context().device.ordinal)


@call("cuCtxGetDevice", "pp", since=13000)
def cu_ctx_get_device_v2(target: int, handle: int) -> None:
    put_int(target, _named(handle).device.ordinal)


@call("cuCtxGetId", "pp")
def cu_ctx_get_id(handle: int, target: int) -> None:
    put_u64(target, _named(handle).handle)


@call("cuCtxGetApiVersion", "pp")
def cu_ctx_get_api_version(handle: int, target: int) -> None:
    _named(handle)
    put_u32(target, _API_VERSION)


@call("cuCtxGetFlags", "p")
def cu_ctx_get_flags(target: int) -> None:
    put_u32(target, driver().context().device.flags)


@call("cuCtxGetStreamPriorityRange", "pp")
def cu_ctx_get_stream_priority_range(least: int, greatest: int) -> None:
    for target, value in ((least, _LEAST_PRIORITY), (greatest, _GREATEST_PRIORITY)):
        if target:
            put_int(target, value)


@call("cuCtxSynchronize", "")
def cu_ctx_synchronize() -> None:
    _synchronize(driver().context())


@call("cuCtxSynchronize", "p", since=13000)
def cu_ctx_synchronize_v2(handle: int) -> None:
    _synchronize(_named(handle))


def _synchronize(context: Context) -> None:
    refuse_waiting(driver().captures, context.streams)
    driver().synchronize_context(context)


@call("cuCtxEnablePeerAccess", "pI")
def cu_ctx_enable_peer_access(handle: int, flags: int) -> None:
    context, peer = driver().context(), _peer(handle)
    if flags:
        raise DriverError(CuResult.INVALID_VALUE)
    if not reaches(context.device.ordinal, peer.device.ordinal):
        raise DriverError(CuResult.PEER_ACCESS_UNSUPPORTED)
    if peer in context.mapped:
        raise DriverError(CuResult.PEER_ACCESS_ALREADY_ENABLED)
    context.mapped.add(peer)


@call("cuCtxDisablePeerAccess", "p")
def cu_ctx_disable_peer_access(handle: int) -> None:
    context, peer = driver().context(), _peer(handle)
    if peer not in context.mapped:
        raise DriverError(CuResult.PEER_ACCESS_NOT_ENABLED)
    context.mapped.discard(peer)


def _peer(handle: int) -> Context:
    """The context behind ``handle``, which must not be the current one (cuCtxEnablePeerAccess)."""
    peer = _context(handle)
    if peer is driver().context():
        raise DriverError(CuResult.INVALID_CONTEXT)
    return peer
