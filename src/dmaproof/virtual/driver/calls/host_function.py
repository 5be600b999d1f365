"""Functions of the program in the order of a stream."""

from __future__ import annotations

import ctypes

from dmaproof.virtual.driver.abi import call
from dmaproof.virtual.driver.calls.node_params import HostParams
from dmaproof.virtual.driver.capture import refuse_waiting
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import CuResult, require
from dmaproof.virtual.driver.gpus import Context
from dmaproof.virtual.driver.host_tasks import host_task

_StreamCallback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


@call("cuLaunchHostFunc", "ppp")
def cu_launch_host_func(stream: int, function: int, data: int) -> None:
    """Not called where the context dies before its turn."""
    on = driver().stream(stream)
    assert isinstance(on.context, Context)  # noqa: S101
    driver().submit(on, host_task(driver(), on.context, function, data, HostParams(function, data)))


@call("cuStreamAddCallback", "pppI")
def cu_stream_add_callback(stream: int, function: int, data: int, flags: int) -> None:
    """Called in any case, with the error where the context dies before its turn. It cannot be captured."""
    state = driver()
    require(function and not flags)
    on, entry = state.stream(stream), _StreamCallback(function)
    refuse_waiting(state.captures, [on])
    context, called = on.context, [False]

    def say(code: CuResult) -> None:
        if not called[0]:
            called[0] = True
            entry(stream, int(code), data)

    def in_vain() -> None:
        state.callbacks.start(lambda: say(context.error or CuResult.UNKNOWN))

    op = state.queue(on, state.callbacks.running(lambda: say(CuResult.SUCCESS)))
    op.given_up = in_vain
