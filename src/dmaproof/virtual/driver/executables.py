"""What becomes of graphs: clones, contents of child nodes, executables."""

from __future__ import annotations

from collections.abc import Callable
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from dmaproof.virtual.driver.errors import CuResult, DriverError, require
from dmaproof.virtual.driver.graph_runs import replay
from dmaproof.virtual.driver.graphs import Executable, Graph, Node, NodeType, Step, Task, UserObject

if TYPE_CHECKING:
    from dmaproof.virtual.driver.gpus import Context


def ordered(graph: Graph) -> tuple[Step, ...]:
    """The nodes, each behind all that it waits for. INVALID_VALUE where they wait for each other."""
    try:
        order = list(TopologicalSorter({node: node.after for node in graph.nodes}).static_order())
    except CycleError:
        raise DriverError(CuResult.INVALID_VALUE) from None
    place = {node: at for at, node in enumerate(order)}
    return tuple(Step(node, _now(node.task), tuple(place[one] for one in node.after)) for node in order)


def _now(task: Task) -> Task:
    """A child node does what its graph is by now."""
    return child(task.context, task.parameters) if isinstance(task.parameters, Graph) else task


def child(context: Context, graph: Graph) -> Task:
    """What a child node of ``graph`` does."""
    return Task(NodeType.GRAPH, context, replay(ordered(graph)), graph)


def clone(graph: Graph) -> Graph:
    """The same nodes anew, those of child graphs too. INVALID_VALUE for one that has memory of its own."""
    require(not graph.allocates)
    copied, copies = Graph(objects=dict(graph.objects)), dict[Node, Node]()
    for one, count in graph.objects.items():
        one.references += count
    for step in ordered(graph):
        task = step.task
        if isinstance(task.parameters, Graph):
            task = child(task.context, embed(task.parameters))
        copies[step.node] = copied.add(task, [copies[one] for one in step.node.after])
        copies[step.node].original = step.node
    return copied


def embed(graph: Graph) -> Graph:
    """A clone that is the content of a child node."""
    copied = clone(graph)
    copied.embedded = True
    return copied


def instantiate(graph: Graph, flags: int) -> Executable:
    """Holds what the graph holds."""
    require(not (graph.allocates and graph.executables))
    steps = ordered(graph)
    held = objects_of(graph)
    graph.executables += 1
    return Executable(graph, steps, held, flags)


def objects_of(graph: Graph) -> tuple[UserObject, ...]:
    """What the graph and those in it hold, each with a reference more, for the caller to give back."""
    held = [one for one, count in graph.objects.items() if count]
    for one in held:
        one.references += 1
    inside = (node.task.parameters for node in graph.nodes)
    return (*held, *(one for child in inside if isinstance(child, Graph) for one in objects_of(child)))


def holding(objects: tuple[UserObject, ...]) -> Callable[[], None]:
    """A launch holds ``objects`` until what is returned is called, for the first time."""
    left = list(objects)
    for one in left:
        one.references += 1

    def let_go() -> None:
        while left:
            left.pop().release(1)

    return let_go
