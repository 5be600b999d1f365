"""Nodes that no GPU works on: calls of the program's functions, events recorded and waited for."""

from __future__ import annotations

from dmaproof.virtual.driver.abi import call, put_u64
from dmaproof.virtual.driver.calls.graph import add, get_node, set_node_task
from dmaproof.virtual.driver.calls.graph_exec import set_task
from dmaproof.virtual.driver.calls.node_params import HostParams, taken, told
from dmaproof.virtual.driver.driver import driver
from dmaproof.virtual.driver.errors import require
from dmaproof.virtual.driver.graphs import NodeType, Task
from dmaproof.virtual.driver.host_tasks import host_task, record_task, wait_task


def _host(parameters: int) -> Task:
    asked = taken(HostParams, parameters)
    return host_task(driver(), driver().context(), asked.function or 0, asked.data or 0, asked)


@call("cuGraphAddHostNode", "pppzp")
def cu_graph_add_host_node(target: int, graph: int, dependencies: int, count: int, parameters: int) -> None:
    add(target, graph, dependencies, count, _host(parameters))


@call("cuGraphHostNodeGetParams", "pp")
def cu_graph_host_node_get_params(node: int, parameters: int) -> None:
    told(HostParams, parameters, get_node(node).task.parameters)


@call("cuGraphHostNodeSetParams", "pp")
def cu_graph_host_node_set_params(node: int, parameters: int) -> None:
    set_node_task(node, _host(parameters))


@call("cuGraphExecHostNodeSetParams", "ppp")
def cu_graph_exec_host_node_set_params(executable: int, node: int, parameters: int) -> None:
    set_task(executable, node, _host(parameters))


@call("cuGraphAddEventRecordNode", "pppzp")
def cu_graph_add_event_record_node(target: int, graph: int, dependencies: int, count: int, event: int) -> None:
    add(target, graph, dependencies, count, record_task(driver(), driver().context(), event))


@call("cuGraphAddEventWaitNode", "pppzp")
def cu_graph_add_event_wait_node(target: int, graph: int, dependencies: int, count: int, event: int) -> None:
    add(target, graph, dependencies, count, wait_task(driver(), driver().context(), event))


def _put_event(node: int, kind: NodeType, target: int) -> None:
    task = get_node(node).task
    require(task.type is kind)
    assert isinstance(task.parameters, int)  # noqa: S101
    put_u64(target, task.parameters)


@call("cuGraphEventRecordNodeGetEvent", "pp")
def cu_graph_event_record_node_get_event(node: int, target: int) -> None:
    _put_event(node, NodeType.EVENT_RECORD, target)


@call("cuGraphEventWaitNodeGetEvent", "pp")
def cu_graph_event_wait_node_get_event(node: int, target: int) -> None:
    _put_event(node, NodeType.WAIT_EVENT, target)


@call("cuGraphEventRecordNodeSetEvent", "pp")
def cu_graph_event_record_node_set_event(node: int, event: int) -> None:
    set_node_task(node, record_task(driver(), driver().context(), event))


@call("cuGraphEventWaitNodeSetEvent", "pp")
def cu_graph_event_wait_node_set_event(node: int, event: int) -> None:
    set_node_task(node, wait_task(driver(), driver().context(), event))


@call("cuGraphExecEventRecordNodeSetEvent", "ppp")
def cu_graph_exec_event_record_node_set_event(executable: int, node: int, event: int) -> None:
    set_task(executable, node, record_task(driver(), driver().context(), event))


@call("cuGraphExecEventWaitNodeSetEvent", "ppp")
def cu_graph_exec_event_wait_node_set_event(executable: int, node: int, event: int) -> None:
    set_task(executable, node, wait_task(driver(), driver().context(), event))
