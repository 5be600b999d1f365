"""The nodes of graphs: what each is told to do when it is added, or later in an executable."""

from __future__ import annotations

import ctypes
import math

from dmaproof.virtual.driver.abi import call
from dmaproof.virtual.driver.calls.graph import add, get_graph, set_task
from dmaproof.virtual.driver.copies import copy_task, fill_task
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import CuResult, DriverError, not_supported
from dmaproof.virtual.driver.gpus import Context
from dmaproof.virtual.driver.graphs import NodeType, Task, nothing, ordered, replay
from dmaproof.virtual.driver.modules import Kernel, kernel_task

_HOST, _ARRAY = 1, 3  # CUmemorytype (cuda.h)
_UNIT_NBYTES = (1, 2, 4)


class _KernelParams(ctypes.Structure):
    """CUDA_KERNEL_NODE_PARAMS_v2 (cuda.h)."""

    _fields_ = (
        ("function", ctypes.c_void_p),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_nbytes", ctypes.c_uint),
        ("parameters", ctypes.c_void_p),
        ("extra", ctypes.c_void_p),
        ("kernel", ctypes.c_void_p),
        ("context", ctypes.c_void_p),
    )


class _CopyEnd(ctypes.Structure):
    """One half of CUDA_MEMCPY3D_v2 (cuda.h): that of the source, then that of the target."""

    _fields_ = (
        ("x_nbytes", ctypes.c_size_t),
        ("y", ctypes.c_size_t),
        ("z", ctypes.c_size_t),
        ("lod", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("host", ctypes.c_void_p),
        ("device", ctypes.c_uint64),
        ("array", ctypes.c_void_p),
        ("reserved", ctypes.c_void_p),
        ("pitch", ctypes.c_size_t),
        ("height", ctypes.c_size_t),
    )


class _CopyParams(ctypes.Structure):
    """CUDA_MEMCPY3D_v2 (cuda.h)."""

    _fields_ = (
        ("source", _CopyEnd),
        ("target", _CopyEnd),
        ("width_nbytes", ctypes.c_size_t),
        ("height", ctypes.c_size_t),
        ("depth", ctypes.c_size_t),
    )


class _FillParams(ctypes.Structure):
    """CUDA_MEMSET_NODE_PARAMS_v1 (cuda.h)."""

    _fields_ = (
        ("target", ctypes.c_uint64),
        ("pitch", ctypes.c_size_t),
        ("value", ctypes.c_uint),
        ("unit_nbytes", ctypes.c_uint),
        ("width", ctypes.c_size_t),
        ("height", ctypes.c_size_t),
    )


def _context(handle: int) -> Context:
    """INVALID_CONTEXT for none."""
    try:
        return driver().handles.get(handle, Context)
    except DriverError:
        raise DriverError(CuResult.INVALID_CONTEXT) from None


def _present(parameters: int) -> int:
    if not parameters:
        raise DriverError(CuResult.INVALID_VALUE)
    return parameters


def _kernel(parameters: int) -> Task:
    asked = _KernelParams.from_address(_present(parameters))
    if asked.extra:
        raise not_supported("kernel nodes with extra options: pass kernelParams")
    kernel = driver().handles.get(asked.function or asked.kernel or 0, Kernel)
    context = _context(asked.context) if asked.context and not asked.function else driver().context()
    shape = math.prod(asked.grid), math.prod(asked.block)
    return kernel_task(driver(), context, kernel, *shape, asked.parameters or 0)


def _copy(parameters: int, context: int) -> Task:
    asked = _CopyParams.from_address(_present(parameters))
    if asked.height != 1 or asked.depth != 1:
        raise not_supported(f"copy nodes of {asked.height} rows and {asked.depth} slices: only one of each")
    if not asked.width_nbytes:
        raise DriverError(CuResult.INVALID_VALUE)
    target, source = _address(asked.target), _address(asked.source)
    return copy_task(driver(), _context(context), target, source, asked.width_nbytes)


def _address(end: _CopyEnd) -> int:
    if end.type == _ARRAY or end.lod:
        raise not_supported("copy nodes from or to arrays")
    base = (end.host or 0) if end.type == _HOST else end.device
    return int(base + end.x_nbytes + end.y * end.pitch + end.z * end.pitch * end.height)


def _fill(parameters: int, context: int) -> Task:
    asked = _FillParams.from_address(_present(parameters))
    if asked.unit_nbytes not in _UNIT_NBYTES or not asked.width:
        raise DriverError(CuResult.INVALID_VALUE)
    if asked.height != 1:
        raise not_supported(f"fill nodes of {asked.height} rows: only one")
    unit = (asked.value & (256**asked.unit_nbytes - 1)).to_bytes(asked.unit_nbytes, "little")
    return fill_task(driver(), _context(context), asked.target, unit, asked.width)


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
def cu_graph_add_child_graph_node(target: int, graph: int, dependencies: int, count: int, child: int) -> None:
    """The child is copied: what becomes of it later does not matter."""
    task = Task(NodeType.GRAPH, driver().context(), replay(ordered(get_graph(child))))
    add(target, graph, dependencies, count, task)


@call("cuGraphExecKernelNodeSetParams", "ppp", since=12000)
def cu_graph_exec_kernel_node_set_params(executable: int, node: int, parameters: int) -> None:
    set_task(executable, node, _kernel(parameters))


@call("cuGraphExecMemcpyNodeSetParams", "pppp")
def cu_graph_exec_memcpy_node_set_params(executable: int, node: int, parameters: int, context: int) -> None:
    set_task(executable, node, _copy(parameters, context))


@call("cuGraphExecMemsetNodeSetParams", "pppp")
def cu_graph_exec_memset_node_set_params(executable: int, node: int, parameters: int, context: int) -> None:
    set_task(executable, node, _fill(parameters, context))
