"""Nodes that a GPU works on: what each is told to do when it is added, or later, in its graph or in an executable."""

from __future__ import annotations

import ctypes
import math

from dmaproof.virtual.driver.abi import call, put_u64
from dmaproof.virtual.driver.boxes import Box
from dmaproof.virtual.driver.calls.graph import add, adopt, get_graph, get_node, set_node_task
from dmaproof.virtual.driver.calls.graph_exec import set_task
from dmaproof.virtual.driver.calls.node_params import (
    CopyParams,
    FillParams,
    KernelParams,
    address_of,
    box_of,
    taken,
    told,
)
from dmaproof.virtual.driver.copies import copy_task
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import CuResult, not_supported, require
from dmaproof.virtual.driver.executables import child, embed
from dmaproof.virtual.driver.fills import fill_task
from dmaproof.virtual.driver.gpus import Context
from dmaproof.virtual.driver.graphs import Graph, Task, nothing
from dmaproof.virtual.driver.modules import Kernel, kernel_task, packed_again

_UNIT_NBYTES = (1, 2, 4)


def _context(handle: int) -> Context:
    return driver().handles.get(handle, Context, CuResult.INVALID_CONTEXT)


def _kernel(parameters: int) -> Task:
    asked = taken(KernelParams, parameters)
    if asked.extra:
        raise not_supported("kernel nodes with extra options: pass kernelParams")
    kernel = driver().handles.get(asked.function or asked.kernel or 0, Kernel)
    context = _context(asked.context) if asked.context and not asked.function else driver().context()
    shape = math.prod(asked.grid), math.prod(asked.block)
    require(asked.parameters or not kernel.entry.parameters)
    kept = packed_again(kernel.entry, asked.parameters or 0)
    asked.parameters = ctypes.addressof(kept.pointers)
    asked.kept = kept  # what the pointer leads to lives as long as the node's parameters do
    return kernel_task(driver(), context, kernel, *shape, asked.parameters, asked)


def _copy(parameters: int, context: int) -> Task:
    asked = taken(CopyParams, parameters)
    require(asked.width_nbytes and asked.height and asked.depth)
    target, source = address_of(asked.target), address_of(asked.source)
    return copy_task(driver(), _context(context), target, source, box_of(asked), asked)


def _fill(parameters: int, context: int) -> Task:
    asked = taken(FillParams, parameters)
    require(asked.unit_nbytes in _UNIT_NBYTES and asked.width and asked.height)
    nbytes = asked.width * asked.unit_nbytes
    require(asked.height == 1 or asked.pitch >= nbytes)
    unit = (asked.value & (256**asked.unit_nbytes - 1)).to_bytes(asked.unit_nbytes, "little")
    pitch = asked.pitch if asked.height > 1 else 0
    box = Box(nbytes, asked.height, 1, (pitch, 0), (pitch, 0))
    return fill_task(driver(), _context(context), asked.target, unit, box, asked)


@call("cuGraphAddKernelNode", "pppzp", since=12000)
def cu_graph_add_kernel_node(target: int, graph: int, dependencies: int, count: int, parameters: int) -> None:
    add(target, graph, dependencies, count, _kernel(parameters))


@call("cuGraphAddMemcpyNode", "pppzpp")
def cu_graph_add_memcpy_node(  # noqa: PLR0913, RUF100 - as the API has it
    target: int, graph: int, dependencies: int, count: int, parameters: int, context: int
) -> None:
    add(target, graph, dependencies, count, _copy(parameters, context))


@call("cuGraphAddMemsetNode", "pppzpp")
def cu_graph_add_memset_node(  # noqa: PLR0913, RUF100 - as the API has it
    target: int, graph: int, dependencies: int, count: int, parameters: int, context: int
) -> None:
    add(target, graph, dependencies, count, _fill(parameters, context))


@call("cuGraphAddEmptyNode", "pppz")
def cu_graph_add_empty_node(target: int, graph: int, dependencies: int, count: int) -> None:
    add(target, graph, dependencies, count, nothing(driver().context()))


@call("cuGraphAddChildGraphNode", "pppzp")
def cu_graph_add_child_graph_node(target: int, graph: int, dependencies: int, count: int, content: int) -> None:
    """The child is copied: what becomes of it later does not matter."""
    require(get_graph(content) is not get_graph(graph))
    add(target, graph, dependencies, count, child(driver().context(), embed(get_graph(content))))


@call("cuGraphChildGraphNodeGetGraph", "pp")
def cu_graph_child_graph_node_get_graph(node: int, target: int) -> None:
    found = get_node(node).task.parameters
    require(isinstance(found, Graph))
    assert isinstance(found, Graph)  # noqa: S101
    put_u64(target, adopt(found))


@call("cuGraphKernelNodeGetParams", "pp", since=12000)
def cu_graph_kernel_node_get_params(node: int, parameters: int) -> None:
    told(KernelParams, parameters, get_node(node).task.parameters)


@call("cuGraphMemcpyNodeGetParams", "pp")
def cu_graph_memcpy_node_get_params(node: int, parameters: int) -> None:
    told(CopyParams, parameters, get_node(node).task.parameters)


@call("cuGraphMemsetNodeGetParams", "pp")
def cu_graph_memset_node_get_params(node: int, parameters: int) -> None:
    told(FillParams, parameters, get_node(node).task.parameters)


@call("cuGraphKernelNodeSetParams", "pp", since=12000)
def cu_graph_kernel_node_set_params(node: int, parameters: int) -> None:
    set_node_task(node, _kernel(parameters))


@call("cuGraphMemcpyNodeSetParams", "pp")
def cu_graph_memcpy_node_set_params(node: int, parameters: int) -> None:
    set_node_task(node, _copy(parameters, get_node(node).task.context.handle))


@call("cuGraphMemsetNodeSetParams", "pp")
def cu_graph_memset_node_set_params(node: int, parameters: int) -> None:
    set_node_task(node, _fill(parameters, get_node(node).task.context.handle))


@call("cuGraphExecKernelNodeSetParams", "ppp", since=12000)
def cu_graph_exec_kernel_node_set_params(executable: int, node: int, parameters: int) -> None:
    set_task(executable, node, _kernel(parameters))


@call("cuGraphExecMemcpyNodeSetParams", "pppp")
def cu_graph_exec_memcpy_node_set_params(executable: int, node: int, parameters: int, context: int) -> None:
    set_task(executable, node, _copy(parameters, context))


@call("cuGraphExecMemsetNodeSetParams", "pppp")
def cu_graph_exec_memset_node_set_params(executable: int, node: int, parameters: int, context: int) -> None:
    set_task(executable, node, _fill(parameters, context))


@call("cuGraphExecChildGraphNodeSetParams", "ppp")
def cu_graph_exec_child_graph_node_set_params(executable: int, node: int, content: int) -> None:
    set_task(executable, node, child(driver().context(), embed(get_graph(content))))
