"""Graphs: work that is put together once and done as often as it is launched.

A node's work is a Task: what a stream would do at once. A launch is one operation of its stream, within which nodes
run as soon as those before them are done, each on its own context's GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from dmaproof.virtual.driver.errors import CuResult, DriverError
from dmaproof.virtual.driver.streams import Op, Run

if TYPE_CHECKING:
    from dmaproof.virtual.driver.gpus import Context


class NodeType(IntEnum):
    """The part of CUgraphNodeType (cuda.h) that this driver has."""

    KERNEL = 0
    MEMCPY = 1
    MEMSET = 2
    GRAPH = 4
    EMPTY = 5


@dataclass(frozen=True, eq=False, slots=True)
class Task:
    """Work on ``context``'s GPU. ``run`` may be called any number of times."""

    type: NodeType
    context: Context
    run: Run


def nothing(context: Context) -> Task:
    """What an empty node does."""
    return Task(NodeType.EMPTY, context, lambda ready_ns, _: ready_ns)


@dataclass(eq=False, slots=True)
class Node:
    """One node. ``after``: those that must be done before it."""

    graph: Graph
    task: Task
    after: list[Node]
    handle: int = 0


@dataclass(eq=False, slots=True)
class UserObject:
    """Something of the program's that ``destroy`` gives back with the last reference."""

    destroy: Callable[[], None]
    references: int

    def release(self, count: int) -> None:
        self.references -= count
        if self.references <= 0:
            self.destroy()


@dataclass(eq=False, slots=True)
class Graph:
    """Nodes in the order in which they were added, and how many references to user objects it holds."""

    nodes: list[Node] = field(default_factory=list)
    objects: dict[UserObject, int] = field(default_factory=dict)
    handle: int = 0

    def add(self, task: Task, after: Iterable[Node]) -> Node:
        node = Node(self, task, list(after))
        self.nodes.append(node)
        return node


@dataclass(frozen=True, slots=True)
class Step:
    """A node of an executable graph; ``after`` are the places of others in the order of execution."""

    node: Node
    task: Task
    after: tuple[int, ...]


@dataclass(eq=False, slots=True)
class Executable:
    """A graph as it was when it was instantiated. Launches of one executable run one after the other (``last``)."""

    steps: tuple[Step, ...]
    objects: tuple[UserObject, ...] = ()
    flags: int = 0
    handle: int = 0
    last: Op | None = None


def ordered(graph: Graph) -> tuple[Step, ...]:
    """The nodes, each behind all that it waits for. INVALID_VALUE where they wait for each other."""
    try:
        order = list(TopologicalSorter({node: node.after for node in graph.nodes}).static_order())
    except CycleError:
        raise DriverError(CuResult.INVALID_VALUE) from None
    place = {node: at for at, node in enumerate(order)}
    return tuple(Step(node, node.task, tuple(place[one] for one in node.after)) for node in order)


def instantiate(graph: Graph, flags: int) -> Executable:
    """Holds what the graph holds."""
    held = tuple(one for one, count in graph.objects.items() if count)
    for one in held:
        one.references += 1
    return Executable(ordered(graph), held, flags)


def replay(steps: tuple[Step, ...]) -> Run:
    """All of ``steps`` as one operation."""

    def run(ready_ns: float, queued_ns: float) -> Generator[None, None, float]:
        return _carry_out(steps, ready_ns, queued_ns)

    return run


def _carry_out(steps: tuple[Step, ...], ready_ns: float, queued_ns: float) -> Generator[None, None, float]:
    """Polls kernels that wait for others; the end is that of the last node."""
    ends: dict[int, float] = {}
    running: dict[int, Generator[None, None, float]] = {}
    try:
        while len(ends) < len(steps):
            moved = _begin(steps, ends, running, ready_ns, queued_ns)
            moved = _poll(steps, ends, running) or moved
            if not moved:
                yield
    finally:
        for one in running.values():
            one.close()
    return max(ends.values(), default=ready_ns)


def _begin(
    steps: tuple[Step, ...],
    ends: dict[int, float],
    running: dict[int, Generator[None, None, float]],
    ready_ns: float,
    queued_ns: float,
) -> bool:
    """Start each node whose turn has come; whether one was done at once."""
    moved = False
    for at, step in enumerate(steps):
        if at in ends or at in running or not all(before in ends for before in step.after):
            continue
        with _blamed(step):
            result = step.task.run(max([ready_ns, *(ends[before] for before in step.after)]), queued_ns)
        if isinstance(result, float | int):
            ends[at], moved = result, True
        else:
            running[at] = result
    return moved


def _poll(steps: tuple[Step, ...], ends: dict[int, float], running: dict[int, Generator[None, None, float]]) -> bool:
    moved = False
    for at in list(running):
        try:
            with _blamed(steps[at]):
                next(running[at])
        except StopIteration as stop:
            del running[at]
            ends[at], moved = float(stop.value), True
    return moved


@contextmanager
def _blamed(step: Step) -> Iterator[None]:
    """An error of a node ends its own context, beside that of the stream which the graph was launched in."""
    try:
        yield
    except DriverError as error:
        error.victims.append(step.task.context)
        raise
