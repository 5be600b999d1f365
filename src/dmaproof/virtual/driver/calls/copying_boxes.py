"""Copies of rows and slices between linear memories; arrays are refused."""

from __future__ import annotations

from dmaproof.virtual.driver.abi import call
from dmaproof.virtual.driver.calls.copying import known, on_gpu_of
from dmaproof.virtual.driver.calls.node_params import CopyEnd, CopyParams, PlaneParams, address_of, box_of, taken
from dmaproof.virtual.driver.copies import queue_copy
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import require
from dmaproof.virtual.driver.streams import Stream

_DEVICE = 2  # CU_MEMORYTYPE_DEVICE (cuda.h)
_MOST_PITCH = 2**31 - 1  # CU_DEVICE_ATTRIBUTE_MAX_PITCH


def _queue(stream: Stream, asked: CopyParams, peer: bool = False) -> None:
    box = box_of(asked)
    if not box.nbytes:
        return
    require(max(asked.source.pitch, asked.target.pitch) <= _MOST_PITCH)
    target, source = _checked(asked.target, peer), _checked(asked.source, peer)
    queue_copy(driver(), stream, target, source, box)


def _checked(end: CopyEnd, peer: bool) -> int:
    va = address_of(end)
    if end.type == _DEVICE:
        known(va)
        if peer:
            on_gpu_of(end.peer or 0, va)
    return va


def _and_wait(asked: CopyParams, peer: bool = False) -> None:
    stream = driver().stream(0)
    _queue(stream, asked, peer)
    driver().synchronize(stream)


@call("cuMemcpy2D", "p", since=3020)
def cu_memcpy_2d(parameters: int) -> None:
    _and_wait(taken(PlaneParams, parameters).as_copy())


@call("cuMemcpy2DUnaligned", "p", since=3020)
def cu_memcpy_2d_unaligned(parameters: int) -> None:
    """Any pitch is as good as another here, so the same."""
    _and_wait(taken(PlaneParams, parameters).as_copy())


@call("cuMemcpy2DAsync", "pp", since=3020)
def cu_memcpy_2d_async(parameters: int, stream: int) -> None:
    _queue(driver().stream(stream), taken(PlaneParams, parameters).as_copy())


@call("cuMemcpy3D", "p", since=3020)
def cu_memcpy_3d(parameters: int) -> None:
    _and_wait(taken(CopyParams, parameters))


@call("cuMemcpy3DAsync", "pp", since=3020)
def cu_memcpy_3d_async(parameters: int, stream: int) -> None:
    _queue(driver().stream(stream), taken(CopyParams, parameters))


@call("cuMemcpy3DPeer", "p")
def cu_memcpy_3d_peer(parameters: int) -> None:
    _and_wait(taken(CopyParams, parameters), peer=True)


@call("cuMemcpy3DPeerAsync", "pp")
def cu_memcpy_3d_peer_async(parameters: int, stream: int) -> None:
    _queue(driver().stream(stream), taken(CopyParams, parameters), peer=True)
