"""Primary contexts, the calling thread's current context, and peer access."""

from __future__ import annotations

from dmaproof.virtual.driver.abi import call, put_int, put_u32, put_u64
from dmaproof.virtual.driver.calls.device import reaches
from dmaproof.virtual.driver.capture import refuse_waiting
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import GPU_LOST, CuResult, DriverError
from dmaproof.virtual.driver.gpus import Context, Device
from dmaproof.virtual.driver.release import release_memory

_API_VERSION = 3020  # of every context since CUDA 3.2
_LEAST_PRIORITY, _GREATEST_PRIORITY = 0, -5


@call("cuDevicePrimaryCtxRetain", "pi", needs="init")
def cu_device_primary_ctx_retain(target: int, device: int) -> None:
    state, one = driver(), driver().device(device)
    if one.context is None:
        presence = state.link.inquire(one.bdf, context=True)
        if presence.state != "present":
            raise DriverError(GPU_LOST if presence.state == "lost" else CuResult[presence.code])
        one.context = Context(one, state)
    one.context.uses += 1
    put_u64(target, one.context.handle)


@call("cuDevicePrimaryCtxRelease", "i", needs="init")
def cu_device_primary_ctx_release(device: int) -> None:
    one = driver().device(device)
    if one.context is None:
        raise DriverError(CuResult.INVALID_CONTEXT)
    one.context.uses -= 1
    if one.context.uses == 0:
        _destroy(one)


@call("cuDevicePrimaryCtxReset", "i", needs="init")
def cu_device_primary_ctx_reset(device: int) -> None:
    _destroy(driver().device(device))


def _destroy(device: Device) -> None:
    """The context and all that is in it go; other contexts lose their mapping of its memory with it."""
    state, context = driver(), device.context
    if context is None:
        return
    context.scheduler.drop(context.streams)
    release_memory(state, device)
    state.handles.remove(context.handle)
    for stream in context.streams:
        state.handles.remove(stream.handle)
    for other in state.devices:
        if other.context is not None:
            other.context.peers.discard(device.ordinal)
    device.context = None


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
    context = driver().handles.get(handle, Context) if handle else None
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
    driver().stack.append(driver().handles.get(handle, Context))


@call("cuCtxPopCurrent", "p", needs="init")
def cu_ctx_pop_current(target: int) -> None:
    if not driver().stack:
        raise DriverError(CuResult.INVALID_CONTEXT)
    popped = driver().stack.pop()
    if target:
        put_u64(target, popped.handle if popped else 0)


def _named(handle: int) -> Context:
    """The context behind ``handle``, or the current one for null."""
    return driver().handles.get(handle, Context) if handle else driver().context()


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
    if peer.device.ordinal in context.peers:
        raise DriverError(CuResult.PEER_ACCESS_ALREADY_ENABLED)
    context.peers.add(peer.device.ordinal)


@call("cuCtxDisablePeerAccess", "p")
def cu_ctx_disable_peer_access(handle: int) -> None:
    context, peer = driver().context(), _peer(handle)
    if peer.device.ordinal not in context.peers:
        raise DriverError(CuResult.PEER_ACCESS_NOT_ENABLED)
    context.peers.discard(peer.device.ordinal)


def _peer(handle: int) -> Context:
    """The context behind ``handle``, which must not be the current one (cuCtxEnablePeerAccess)."""
    try:
        peer = driver().handles.get(handle, Context)
    except DriverError:
        raise DriverError(CuResult.INVALID_CONTEXT) from None
    if peer is driver().context():
        raise DriverError(CuResult.INVALID_CONTEXT)
    return peer
