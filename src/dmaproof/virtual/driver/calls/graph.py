"""Graphs: their nodes and what stands between them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dmaproof.virtual.driver.abi import call, get_text, get_u64, put_int, put_u64
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import CuResult, DriverError, not_supported, require
from dmaproof.virtual.driver.executables import clone
from dmaproof.virtual.driver.graphs import Executable, Graph, Node, Task

_POINTER = _EDGE = 8  # bytes of a handle, and of a CUgraphEdgeData


def adopt(one: Graph | Node | Executable) -> int:
    """The handle of ``one``, which gets one if it had none."""
    if not one.handle:
        one.handle = driver().handles.add(one)
    return one.handle


def close(graph: Graph) -> None:
    """Its handle and those of its nodes, and of the graphs in them, are invalid from now on."""
    graph.closed = True
    for handle in (graph.handle, *(node.handle for node in graph.nodes)):
        driver().handles.remove(handle)
    for node in graph.nodes:
        if isinstance(node.task.parameters, Graph):
            close(node.task.parameters)
    for one, count in graph.objects.items():
        one.release(count)
    graph.objects.clear()
    forget_memory()


def forget_memory() -> None:
    """Addresses of graphs' memory that nobody can allocate any more are none."""
    for one in driver().graph_memory.forgotten():
        driver().space.remove(one.found)


def nodes_at(address: int, count: int, graph: Graph) -> tuple[Node, ...]:
    """``count`` node handles at ``address``; INVALID_VALUE where one is none of ``graph``'s."""
    require(address or not count)
    nodes = tuple(get_node(get_u64(address + _POINTER * at)) for at in range(count))
    require(all(node.graph is graph for node in nodes))
    return nodes


def add(target: int, graph: int, dependencies: int, ndependencies: int, task: Task) -> None:
    """A node of ``graph`` that does ``task`` after the nodes at ``dependencies``."""
    into = get_graph(graph)
    put_u64(target, adopt(into.add(task, nodes_at(dependencies, ndependencies, into))))


def get_graph(handle: int) -> Graph:
    return driver().handles.get(handle, Graph, CuResult.INVALID_VALUE)


def get_node(handle: int) -> Node:
    return driver().handles.get(handle, Node, CuResult.INVALID_VALUE)


def set_node_task(handle: int, task: Task) -> None:
    """New work for a node of a graph; executables keep what they have. INVALID_VALUE for work of another type."""
    node = get_node(handle)
    require(node.task.type is task.type)
    node.task = task


@call("cuGraphCreate", "pI")
def cu_graph_create(target: int, flags: int) -> None:
    require(not flags)
    put_u64(target, adopt(Graph()))


@call("cuGraphDestroy", "p")
def cu_graph_destroy(handle: int) -> None:
    require(not get_graph(handle).embedded)
    close(get_graph(handle))


@call("cuGraphDestroyNode", "p")
def cu_graph_destroy_node(handle: int) -> None:
    node = get_node(handle)
    require(not node.graph.allocates)
    node.graph.nodes.remove(node)
    for other in node.graph.nodes:
        other.after = [one for one in other.after if one is not node]
    if isinstance(node.task.parameters, Graph):
        close(node.task.parameters)
    driver().handles.remove(handle)


@call("cuGraphClone", "pp")
def cu_graph_clone(target: int, handle: int) -> None:
    put_u64(target, adopt(clone(get_graph(handle))))


@call("cuGraphNodeFindInClone", "ppp")
def cu_graph_node_find_in_clone(target: int, handle: int, graph: int) -> None:
    original = get_node(handle)
    found = next((node for node in get_graph(graph).nodes if node.original is original), None)
    if found is None:
        raise DriverError(CuResult.INVALID_VALUE)
    put_u64(target, adopt(found))


@call("cuGraphAddDependencies", "ppppz", since=12030)
def cu_graph_add_dependencies(handle: int, sources: int, targets: int, edges: int, count: int) -> None:
    for source, target in _pairs(handle, sources, targets, edges, count):
        require(source is not target and source not in target.after)
        target.after.append(source)


@call("cuGraphRemoveDependencies", "ppppz", since=12030)
def cu_graph_remove_dependencies(handle: int, sources: int, targets: int, edges: int, count: int) -> None:
    require(not get_graph(handle).allocates)
    for source, target in _pairs(handle, sources, targets, edges, count):
        require(source in target.after)
        target.after.remove(source)


def _pairs(handle: int, sources: int, targets: int, edges: int, count: int) -> list[tuple[Node, Node]]:
    """Nodes and those behind them."""
    graph = get_graph(handle)
    if edges and any(get_u64(edges + _EDGE * at) for at in range(count)):
        raise not_supported("graph edges with data (programmatic dependent launch)")
    return list(zip(nodes_at(sources, count, graph), nodes_at(targets, count, graph), strict=True))


@call("cuGraphGetNodes", "ppp")
def cu_graph_get_nodes(handle: int, nodes: int, count: int) -> None:
    _put_handles(get_graph(handle).nodes, nodes, count)


@call("cuGraphGetRootNodes", "ppp")
def cu_graph_get_root_nodes(handle: int, nodes: int, count: int) -> None:
    _put_handles([node for node in get_graph(handle).nodes if not node.after], nodes, count)


@call("cuGraphNodeGetDependencies", "pppp", since=12030)
def cu_graph_node_get_dependencies(handle: int, nodes: int, edges: int, count: int) -> None:
    _put_handles(get_node(handle).after, nodes, count, edges)


@call("cuGraphNodeGetDependentNodes", "pppp", since=12030)
def cu_graph_node_get_dependent_nodes(handle: int, nodes: int, edges: int, count: int) -> None:
    node = get_node(handle)
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
    put_int(target, get_node(handle).task.type)


@call("cuGraphDebugDotPrint", "ppI")
def cu_graph_debug_dot_print(handle: int, path: int, _flags: int) -> None:
    """The graph in the DOT language. Flags ask for more of each node than this driver tells. OPERATING_SYSTEM where
    the file cannot be written."""
    graph = get_graph(handle)
    number = {node: at for at, node in enumerate(graph.nodes)}
    lines = [f'  node_{at} [label="{node.task.type.name}"];' for node, at in number.items()]
    lines += [f"  node_{number[before]} -> node_{at};" for node, at in number.items() for before in node.after]
    try:
        Path(get_text(path)).write_text("\n".join(["digraph dot {", *lines, "}", ""]), encoding="utf-8")
    except OSError as error:
        raise DriverError(CuResult.OPERATING_SYSTEM, f"{error.filename}: {error.strerror}") from None
