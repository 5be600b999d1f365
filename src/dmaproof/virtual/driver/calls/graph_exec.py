"""Executable graphs: made from a graph, launched, and given new work."""

from __future__ import annotations

import ctypes
from collections.abc import Generator

from dmaproof.virtual.driver.abi import call, put_u64
from dmaproof.virtual.driver.calls.graph import adopt, forget_memory, get_graph, get_node
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import CuResult, DriverError, not_supported, require
from dmaproof.virtual.driver.executables import holding, instantiate, objects_of, ordered
from dmaproof.virtual.driver.gpus import Context
from dmaproof.virtual.driver.graph_memory import allocated, promise
from dmaproof.virtual.driver.graph_runs import replay
from dmaproof.virtual.driver.graphs import Executable, NodeType, Step, Task
from dmaproof.virtual.driver.streams import Op, Stream

_AUTO_FREE, _UPLOAD, _USE_NODE_PRIORITY = 1, 2, 8  # CUgraphInstantiate_flags (cuda.h)
_DONE = 0  # CUDA_GRAPH_INSTANTIATE_SUCCESS
_UPDATED, _TOPOLOGY_CHANGED, _TYPE_CHANGED = 0, 2, 3  # CUgraphExecUpdateResult (cuda.h)


def _executable(handle: int) -> Executable:
    return driver().handles.get(handle, Executable, CuResult.INVALID_VALUE)


class _InstantiateParams(ctypes.Structure):
    """CUDA_GRAPH_INSTANTIATE_PARAMS (cuda.h)."""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("stream", ctypes.c_void_p),
        ("error_node", ctypes.c_void_p),
        ("result", ctypes.c_int),
    )


@call("cuGraphInstantiateWithFlags", "ppQ")
def cu_graph_instantiate(target: int, graph: int, flags: int) -> None:
    if flags & ~(_AUTO_FREE | _UPLOAD | _USE_NODE_PRIORITY):
        raise not_supported(f"graph instantiation with flags {flags:#x}")
    found = get_graph(graph)
    require(not any(one.graph is found for one in driver().captures.active))
    put_u64(target, adopt(instantiate(found, flags)))


@call("cuGraphInstantiateWithParams", "ppp")
def cu_graph_instantiate_with_params(target: int, graph: int, parameters: int) -> None:
    require(parameters)
    asked = _InstantiateParams.from_address(parameters)
    cu_graph_instantiate(target, graph, asked.flags)
    asked.error_node, asked.result = 0, _DONE


@call("cuGraphExecGetFlags", "pp")
def cu_graph_exec_get_flags(handle: int, target: int) -> None:
    put_u64(target, _executable(handle).flags)


@call("cuGraphExecDestroy", "p")
def cu_graph_exec_destroy(handle: int) -> None:
    """A launch that is under way goes on."""
    found = _executable(handle)
    for one in found.objects:
        one.release(1)
    found.graph.executables -= 1
    driver().handles.remove(handle)
    forget_memory()


@call("cuGraphUpload", "pp")
def cu_graph_upload(handle: int, stream: int) -> None:
    _executable(handle)
    driver().stream(stream)


@call("cuGraphLaunch", "pp")
def cu_graph_launch(handle: int, stream: int) -> None:
    """Behind the work of the stream and behind earlier launches of the same executable."""
    found, on = _executable(handle), driver().stream(stream)
    assert isinstance(on.context, Context)  # noqa: S101
    if on.capture is not None:
        require(not found.graph.allocates)
        on.capture.take(on, Task(NodeType.GRAPH, on.context, replay(found.steps)))
        return
    if found.flags & _AUTO_FREE:
        _free_left(found, on)
    promise(driver().graph_memory, found.steps)
    earlier = (found.last,) if found.last is not None and not found.last.done else ()
    found.last = _queued(found, on, earlier)


def _queued(found: Executable, stream: Stream, earlier: tuple[Op, ...]) -> Op:
    """What the executable holds stays until the launch is over, whatever becomes of the executable."""
    run, let_go = replay(found.steps), holding(found.objects)

    def running(ready_ns: float, queued_ns: float) -> Generator[None, None, float]:
        try:
            result = run(ready_ns, queued_ns)
            return result if isinstance(result, float | int) else (yield from result)
        finally:
            let_go()

    op = driver().queue(stream, running, earlier)
    op.given_up = let_go
    return op


def _free_left(found: Executable, stream: Stream) -> None:
    """What an earlier launch allocated and nobody freed goes before this one."""
    for one in filter(None, (allocated(step.task) for step in found.steps)):
        if one.promised:
            one.promised = False
            driver().queue(stream, one.ending)


class _UpdateResult(ctypes.Structure):
    """CUgraphExecUpdateResultInfo (cuda.h)."""

    _fields_ = (("result", ctypes.c_int), ("error_node", ctypes.c_void_p), ("from_node", ctypes.c_void_p))


@call("cuGraphExecUpdate", "ppp", since=12000)
def cu_graph_exec_update(handle: int, graph: int, result: int) -> None:
    """New work for the same nodes: as many, between the same ones, of the same types."""
    found, source = _executable(handle), get_graph(graph)
    wanted = ordered(source)
    told = _UpdateResult.from_address(result)
    told.result, told.error_node, told.from_node = _UPDATED, 0, 0
    if [step.after for step in wanted] != [step.after for step in found.steps]:
        told.result = _TOPOLOGY_CHANGED
        raise DriverError(CuResult.GRAPH_EXEC_UPDATE_FAILURE)
    for new, old in zip(wanted, found.steps, strict=True):
        if new.task.type is not old.task.type:
            told.result, told.error_node = _TYPE_CHANGED, adopt(new.node)
            raise DriverError(CuResult.GRAPH_EXEC_UPDATE_FAILURE)
    found.steps = tuple(Step(old.node, new.task, old.after) for new, old in zip(wanted, found.steps, strict=True))
    before, found.objects = found.objects, objects_of(source)
    for one in before:
        one.release(1)


def set_task(executable: int, node: int, task: Task) -> None:
    """New work for one node of an executable; its graph keeps what it has."""
    found, one = _executable(executable), get_node(node)
    require(any(step.node is one and step.task.type is task.type for step in found.steps))
    found.steps = tuple(Step(step.node, task if step.node is one else step.task, step.after) for step in found.steps)
