"""Graphs: their nodes, and launching them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from typing import TypeVar

from dmaproof.virtual.driver.abi import call, get_u64, put_int, put_u64
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import CuResult, DriverError, not_supported
from dmaproof.virtual.driver.gpus import Context
from dmaproof.virtual.driver.graphs import Executable, Graph, Node, NodeType, Step, Task, instantiate, ordered, replay

T = TypeVar("T")
_UPLOAD, _USE_NODE_PRIORITY = 2, 8  # CUgraphInstantiate_flags (cuda.h)
_DONE = 0  # CUDA_GRAPH_INSTANTIATE_SUCCESS
_UPDATED, _TOPOLOGY_CHANGED, _TYPE_CHANGED = 0, 2, 3  # CUgraphExecUpdateResult (cuda.h)
_POINTER = 8


def adopt(one: Graph | Node | Executable) -> int:
    """The handle of ``one``, which gets one if it had none."""
    if not one.handle:
        one.handle = driver().handles.add(one)
    return one.handle


def close(graph: Graph) -> None:
    """Its handle and those of its nodes are invalid from now on."""
    for handle in (graph.handle, *(node.handle for node in graph.nodes)):
        driver().handles.remove(handle)
    for one, count in graph.objects.items():
        one.release(count)
    graph.objects.clear()


def nodes_at(address: int, count: int, graph: Graph) -> tuple[Node, ...]:
    """``count`` node handles at ``address``; INVALID_VALUE where one is none of ``graph``'s."""
    if count and not address:
        raise DriverError(CuResult.INVALID_VALUE)
    nodes = tuple(_node(get_u64(address + _POINTER * at)) for at in range(count))
    if any(node.graph is not graph for node in nodes):
        raise DriverError(CuResult.INVALID_VALUE)
    return nodes


def add(target: int, graph: int, dependencies: int, ndependencies: int, task: Task) -> None:
    """A node of ``graph`` that does ``task`` after the nodes at ``dependencies``."""
    into = get_graph(graph)
    put_u64(target, adopt(into.add(task, nodes_at(dependencies, ndependencies, into))))


def get_graph(handle: int) -> Graph:
    return _found(handle, Graph)


def _node(handle: int) -> Node:
    return _found(handle, Node)


def _executable(handle: int) -> Executable:
    return _found(handle, Executable)


def _found(handle: int, kind: type[T]) -> T:
    """Graph calls answer a stale handle with INVALID_VALUE."""
    try:
        return driver().handles.get(handle, kind)
    except DriverError:
        raise DriverError(CuResult.INVALID_VALUE) from None


@call("cuGraphCreate", "pI")
def cu_graph_create(target: int, flags: int) -> None:
    if flags:
        raise DriverError(CuResult.INVALID_VALUE)
    put_u64(target, adopt(Graph()))


@call("cuGraphDestroy", "p")
def cu_graph_destroy(handle: int) -> None:
    close(get_graph(handle))


@call("cuGraphDestroyNode", "p")
def cu_graph_destroy_node(handle: int) -> None:
    node = _node(handle)
    node.graph.nodes.remove(node)
    for other in node.graph.nodes:
        other.after = [one for one in other.after if one is not node]
    driver().handles.remove(handle)


@call("cuGraphClone", "pp")
def cu_graph_clone(target: int, handle: int) -> None:
    copy, copies = Graph(), dict[Node, Node]()
    for step in ordered(get_graph(handle)):
        copies[step.node] = copy.add(step.task, [copies[one] for one in step.node.after])
    put_u64(target, adopt(copy))


@call("cuGraphAddDependencies", "ppppz", since=12030)
def cu_graph_add_dependencies(handle: int, sources: int, targets: int, edges: int, count: int) -> None:
    graph = get_graph(handle)
    _refuse_edges(edges)
    for source, target in zip(nodes_at(sources, count, graph), nodes_at(targets, count, graph), strict=True):
        if source in target.after:
            raise DriverError(CuResult.INVALID_VALUE)
        target.after.append(source)


def _refuse_edges(edges: int) -> None:
    if edges:
        raise not_supported("graph edges with data (programmatic dependent launch)")


@call("cuGraphGetNodes", "ppp")
def cu_graph_get_nodes(handle: int, nodes: int, count: int) -> None:
    _put_handles(get_graph(handle).nodes, nodes, count)


@call("cuGraphGetRootNodes", "ppp")
def cu_graph_get_root_nodes(handle: int, nodes: int, count: int) -> None:
    _put_handles([node for node in get_graph(handle).nodes if not node.after], nodes, count)


@call("cuGraphNodeGetDependencies", "pppp", since=12030)
def cu_graph_node_get_dependencies(handle: int, nodes: int, edges: int, count: int) -> None:
    _put_handles(_node(handle).after, nodes, count, edges)


@call("cuGraphNodeGetDependentNodes", "pppp", since=12030)
def cu_graph_node_get_dependent_nodes(handle: int, nodes: int, edges: int, count: int) -> None:
    node = _node(handle)
    _put_handles([one for one in node.graph.nodes if node in one.after], nodes, count, edges)


@call("cuGraphGetEdges", "ppppp", since=12030)
def cu_graph_get_edges(handle: int, sources: int, targets: int, edges: int, count: int) -> None:
    found = [(before, node) for node in get_graph(handle).nodes for before in node.after]
    room = get_u64(count) if sources and targets and count else 0
    _put_handles([before for before, _ in found], sources, count)
    if room:
        put_u64(count, room)
        _put_handles([node for _, node in found], targets, count, edges)


def _put_handles(found: Iterable[Node], nodes: int, count: int, edges: int = 0) -> None:
    """Without ``nodes`` only how many; else as many as there is room for, with nulls behind the last (cuda.h). No edge
    has any data (CUgraphEdgeData, eight bytes)."""
    handles = [adopt(one) for one in found]
    room = get_u64(count) if nodes and count else 0
    for at in range(room):
        put_u64(nodes + _POINTER * at, handles[at] if at < len(handles) else 0)
        if edges:
            put_u64(edges + _POINTER * at, 0)
    put_u64(count, min(len(handles), room) if nodes else len(handles))


@call("cuGraphNodeGetType", "pp")
def cu_graph_node_get_type(handle: int, target: int) -> None:
    put_int(target, _node(handle).task.type)


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
    if flags & ~(_UPLOAD | _USE_NODE_PRIORITY):
        raise not_supported(f"graph instantiation with flags {flags:#x}")
    found = get_graph(graph)
    if any(one.graph is found for one in driver().captures.active):
        raise DriverError(CuResult.INVALID_VALUE)
    put_u64(target, adopt(instantiate(found, flags)))


@call("cuGraphInstantiateWithParams", "ppp")
def cu_graph_instantiate_with_params(target: int, graph: int, parameters: int) -> None:
    if not parameters:
        raise DriverError(CuResult.INVALID_VALUE)
    asked = _InstantiateParams.from_address(parameters)
    cu_graph_instantiate(target, graph, asked.flags)
    asked.error_node, asked.result = 0, _DONE


@call("cuGraphExecGetFlags", "pp")
def cu_graph_exec_get_flags(handle: int, target: int) -> None:
    put_u64(target, _executable(handle).flags)


@call("cuGraphExecDestroy", "p")
def cu_graph_exec_destroy(handle: int) -> None:
    """A launch that is under way goes on."""
    for one in _executable(handle).objects:
        one.release(1)
    driver().handles.remove(handle)


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
        on.capture.take(on, Task(NodeType.GRAPH, on.context, replay(found.steps)))
        return
    earlier = (found.last,) if found.last is not None and not found.last.done else ()
    found.last = driver().queue(on, replay(found.steps), earlier)


class _UpdateResult(ctypes.Structure):
    """CUgraphExecUpdateResultInfo (cuda.h)."""

    _fields_ = (("result", ctypes.c_int), ("error_node", ctypes.c_void_p), ("from_node", ctypes.c_void_p))


@call("cuGraphExecUpdate", "ppp", since=12000)
def cu_graph_exec_update(handle: int, graph: int, result: int) -> None:
    """New work for the same nodes: as many, between the same ones, of the same types."""
    found, wanted = _executable(handle), ordered(get_graph(graph))
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


def set_task(executable: int, node: int, task: Task) -> None:
    """New work for one node of an executable; its graph keeps what it has."""
    found, one = _executable(executable), _node(node)
    if not any(step.node is one and step.task.type is task.type for step in found.steps):
        raise DriverError(CuResult.INVALID_VALUE)
    found.steps = tuple(Step(step.node, task if step.node is one else step.task, step.after) for step in found.steps)
