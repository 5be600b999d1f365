"""Nodes that allocate and free memory, and what GPUs give for it."""

from __future__ import annotations

import ctypes

from dmaproof.virtual.driver.abi import call, get_u64, put_u64
from dmaproof.virtual.driver.address_space import Allocation
from dmaproof.virtual.driver.calls.graph import add, get_graph, get_node
from dmaproof.virtual.driver.calls.locations import Access, checked_access
from dmaproof.virtual.driver.calls.node_params import AllocParams, taken, told
from dmaproof.virtual.driver.calls.pool import PoolProps, checked_place
from dmaproof.virtual.driver.chunks import DeviceMemory
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import not_supported, require
from dmaproof.virtual.driver.gpus import Context
from dmaproof.virtual.driver.graph_memory import GraphMemory
from dmaproof.virtual.driver.graphs import Graph, NodeType, Task
from dmaproof.virtual.driver.physical import DEVICE
from dmaproof.virtual.driver.pools import PINNED, Place
from dmaproof.virtual.driver.rights import READ_WRITE

_USED, _USED_HIGH, _RESERVED, _RESERVED_HIGH = 0, 1, 2, 3  # CUgraphMem_attribute (cuda.h)


def new_memory(graph: Graph, place: Place, nbytes: int, rights: dict[int, int]) -> GraphMemory:
    """``nbytes`` of addresses for a node of ``graph``. INVALID_VALUE."""
    require(nbytes and not graph.embedded)
    if place.kind != PINNED or place.location != DEVICE:
        raise not_supported("graph memory that is no GPU's")
    state = driver()
    device = state.device(place.number)
    va = state.space.device_address(nbytes)
    found = Allocation(va, nbytes, "device", device.ordinal, DeviceMemory(nbytes), by="graph", access={})
    made = GraphMemory(state.space.add(found), device, graph, {**rights, device.ordinal: READ_WRITE})
    state.graph_memory.add(made)
    return made


def alloc_task(context: Context, memory: GraphMemory) -> Task:
    def run(ready_ns: float, _: float) -> float:
        memory.begin()
        return ready_ns

    return Task(NodeType.MEM_ALLOC, context, run, memory)


def free_task(context: Context, graph: Graph, va: int) -> Task:
    """INVALID_VALUE for what no node allocates, or another one frees."""
    memory = driver().graph_memory.get(va)
    require(memory is not None and not graph.embedded)
    assert memory is not None  # noqa: S101
    memory.free_in(graph)
    return Task(NodeType.MEM_FREE, context, memory.ending, memory)


@call("cuGraphAddMemAllocNode", "pppzp")
def cu_graph_add_mem_alloc_node(target: int, graph: int, dependencies: int, count: int, parameters: int) -> None:
    asked, into = taken(AllocParams, parameters), get_graph(graph)
    require(not asked.pool.handle_types and (asked.access or not asked.naccess))
    place = checked_place(parameters + AllocParams.pool.offset + PoolProps.location.offset, asked.pool.kind)
    device = driver().device(place.number) if place.location == DEVICE else None
    wishes = (Access * asked.naccess).from_address(asked.access) if asked.naccess else ()
    memory = new_memory(into, place, asked.nbytes, dict(checked_access(wish, device) for wish in wishes))
    add(target, graph, dependencies, count, alloc_task(driver().context(), memory))
    AllocParams.from_address(parameters).va = memory.found.va


@call("cuGraphMemAllocNodeGetParams", "pp")
def cu_graph_mem_alloc_node_get_params(node: int, parameters: int) -> None:
    """The rights are the node's own copy of them."""
    memory = _memory(node, NodeType.MEM_ALLOC)
    others = {one: flags for one, flags in memory.rights.items() if one != memory.device.ordinal}
    descriptors = (Access * len(others))()
    for to, (ordinal, flags) in zip(descriptors, others.items(), strict=True):
        to.location.kind, to.location.number, to.flags = DEVICE, ordinal, flags
    made = AllocParams(naccess=len(others), nbytes=memory.found.nbytes, va=memory.found.va)
    made.access = ctypes.addressof(descriptors) if others else None
    made.pool.kind, made.pool.location.kind, made.pool.location.number = PINNED, DEVICE, memory.device.ordinal
    _told[node] = descriptors
    told(AllocParams, parameters, made)


_told: dict[int, object] = {}
"""By node, the descriptors last handed out, which are the node's."""


def _memory(node: int, kind: NodeType) -> GraphMemory:
    task = get_node(node).task
    require(task.type is kind)
    assert isinstance(task.parameters, GraphMemory)  # noqa: S101
    return task.parameters


@call("cuGraphAddMemFreeNode", "pppzQ")
def cu_graph_add_mem_free_node(target: int, graph: int, dependencies: int, count: int, va: int) -> None:
    add(target, graph, dependencies, count, free_task(driver().context(), get_graph(graph), va))


@call("cuGraphMemFreeNodeGetParams", "pp")
def cu_graph_mem_free_node_get_params(node: int, target: int) -> None:
    put_u64(target, _memory(node, NodeType.MEM_FREE).found.va)


@call("cuDeviceGraphMemTrim", "i", needs="init")
def cu_device_graph_mem_trim(device: int) -> None:
    driver().graph_memory.trim(driver().device(device))


@call("cuDeviceGetGraphMemAttribute", "iip", needs="init")
def cu_device_get_graph_mem_attribute(device: int, attribute: int, target: int) -> None:
    usage = driver().graph_memory.usage(driver().device(device))
    values = {
        _USED: usage.now,
        _USED_HIGH: usage.used_high,
        _RESERVED: usage.now,
        _RESERVED_HIGH: usage.reserved_high,
    }
    require(attribute in values)
    put_u64(target, values[attribute])


@call("cuDeviceSetGraphMemAttribute", "iip", needs="init")
def cu_device_set_graph_mem_attribute(device: int, attribute: int, source: int) -> None:
    """A high mark can be set to zero only: it begins anew."""
    usage = driver().graph_memory.usage(driver().device(device))
    require(attribute in (_USED_HIGH, _RESERVED_HIGH) and get_u64(source) == 0)
    if attribute == _USED_HIGH:
        usage.used_high = usage.now
    else:
        usage.reserved_high = usage.now
