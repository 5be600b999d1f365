"""Stream capture."""

from __future__ import annotations

import ctypes
import threading

from dmaproof.virtual.driver.abi import call, get_u32, put_int, put_u32, put_u64
from dmaproof.virtual.driver.calls.graph import adopt, close, nodes_at
from dmaproof.virtual.driver.capture import GLOBAL, RELAXED, THREAD_LOCAL, Capture
from dmaproof.virtual.driver.driver import LEGACY_STREAM, driver
from dmaproof.virtual.driver.errors import CuResult, DriverError
from dmaproof.virtual.driver.graphs import Graph, Node
from dmaproof.virtual.driver.streams import Stream

_MODES = (GLOBAL, THREAD_LOCAL, RELAXED)
_NONE, _ACTIVE, _INVALIDATED = 0, 1, 2  # CUstreamCaptureStatus (cuda.h)
_ADD, _SET = 0, 1  # CUstreamUpdateCaptureDependencies_flags (cuda.h)


@call("cuStreamBeginCapture", "pi")
def cu_stream_begin_capture(handle: int, mode: int) -> None:
    _begin(handle, mode, Graph())


@call("cuStreamBeginCaptureToGraph", "pppppzi")
def cu_stream_begin_capture_to_graph(  # noqa: PLR0913, RUF100 - as the API has it
    handle: int, graph: int, dependencies: int, _edges: int, ndependencies: int, mode: int
) -> None:
    into = driver().handles.get(graph, Graph)
    _begin(handle, mode, into, nodes_at(dependencies, ndependencies, into))


def _begin(handle: int, mode: int, graph: Graph, tips: tuple[Node, ...] = ()) -> None:
    if mode not in _MODES:
        raise DriverError(CuResult.INVALID_VALUE)
    if handle in (0, LEGACY_STREAM):
        raise DriverError(CuResult.STREAM_CAPTURE_UNSUPPORTED)
    stream = driver().stream(handle)
    if stream.capture is not None:
        raise DriverError(CuResult.ILLEGAL_STATE)
    driver().captures.begin(stream, mode, graph, tips)


@call("cuStreamEndCapture", "pp")
def cu_stream_end_capture(handle: int, target: int) -> None:
    put_u64(target, 0)
    stream = driver().stream(handle)
    capture = stream.capture
    if capture is None:
        raise DriverError(CuResult.ILLEGAL_STATE)
    if capture.origin is not stream:
        capture.invalid = True
        raise DriverError(CuResult.STREAM_CAPTURE_UNMATCHED)
    if capture.mode != RELAXED and capture.thread != threading.get_ident():
        raise DriverError(CuResult.STREAM_CAPTURE_WRONG_THREAD)
    unjoined = capture.unjoined()
    driver().captures.end(capture)
    if capture.invalid or unjoined:
        close(capture.graph)
        code = CuResult.STREAM_CAPTURE_INVALIDATED if capture.invalid else CuResult.STREAM_CAPTURE_UNJOINED
        raise DriverError(code)
    put_u64(target, adopt(capture.graph))


def _capture(handle: int) -> tuple[Stream, Capture | None]:
    """A stream and its capture. STREAM_CAPTURE_IMPLICIT for the legacy stream beside a captured blocking one, which
    stays valid."""
    state = driver()
    stream = state.stream(handle)
    if handle in (0, LEGACY_STREAM) and state.captures.blocking(stream):
        raise DriverError(CuResult.STREAM_CAPTURE_IMPLICIT)
    return stream, stream.capture


def _status(capture: Capture | None) -> int:
    if capture is None:
        return _NONE
    return _INVALIDATED if capture.invalid else _ACTIVE


@call("cuStreamIsCapturing", "pp")
def cu_stream_is_capturing(handle: int, target: int) -> None:
    put_int(target, _status(_capture(handle)[1]))


@call("cuStreamGetCaptureInfo", "pppppp", since=11030)
def cu_stream_get_capture_info_v2(  # noqa: PLR0913, RUF100 - as the API has it
    handle: int, status: int, number: int, graph: int, dependencies: int, ndependencies: int
) -> None:
    cu_stream_get_capture_info_v3(handle, status, number, graph, dependencies, 0, ndependencies)


@call("cuStreamGetCaptureInfo", "ppppppp", since=12030)
def cu_stream_get_capture_info_v3(  # noqa: PLR0913, RUF100 - as the API has it
    handle: int, status: int, number: int, graph: int, dependencies: int, edges: int, ndependencies: int
) -> None:
    stream, capture = _capture(handle)
    put_int(status, _status(capture))
    if capture is None or capture.invalid:
        return
    tips = tuple(adopt(node) for node in capture.tips[stream])
    room = ctypes.c_uint64 * max(len(tips), 1)
    told = _told[stream.number] = room(*tips), room()
    answers = {
        number: capture.number,
        graph: adopt(capture.graph),
        dependencies: ctypes.addressof(told[0]),
        edges: ctypes.addressof(told[1]),
        ndependencies: len(tips),
    }
    for target, value in answers.items():
        if target:
            put_u64(target, value)


_told: dict[int, tuple[ctypes.Array[ctypes.c_uint64], ctypes.Array[ctypes.c_uint64]]] = {}
"""By stream, the nodes last handed out and the data of their edges (eight bytes each, all zero: none has any). They are
valid until the next call about that stream."""


@call("cuStreamUpdateCaptureDependencies", "pppzI", since=12030)
def cu_stream_update_capture_dependencies(
    handle: int, dependencies: int, _edges: int, ndependencies: int, flags: int
) -> None:
    stream, capture = _capture(handle)
    if capture is None:
        raise DriverError(CuResult.ILLEGAL_STATE)
    if flags not in (_ADD, _SET):
        raise DriverError(CuResult.INVALID_VALUE)
    capture.check()
    nodes = nodes_at(dependencies, ndependencies, capture.graph)
    kept = capture.tips[stream] if flags == _ADD else ()
    capture.tips[stream] = tuple(dict.fromkeys((*kept, *nodes)))


@call("cuThreadExchangeStreamCaptureMode", "p", needs="init")
def cu_thread_exchange_stream_capture_mode(mode: int) -> None:
    wanted = get_u32(mode) if mode else -1
    if wanted not in _MODES:
        raise DriverError(CuResult.INVALID_VALUE)
    captures = driver().captures
    put_u32(mode, captures.mode)
    captures.mode = wanted
