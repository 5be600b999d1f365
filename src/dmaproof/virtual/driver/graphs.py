"""Graphs: work that is put together once and done as often as it is launched.

A node's work is a Task: what a stream would do at once. A launch is one operation of its stream, within which nodes
run as soon as those before them are done, each on its own context's GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from dmaproof.virtual.driver.errors import require
from dmaproof.virtual.driver.streams import Op, Run

if TYPE_CHECKING:
    from dmaproof.virtual.driver.gpus import Context


class NodeType(IntEnum):
    """The part of CUgraphNodeType (cuda.h) that this driver has."""

    KERNEL = 0
    MEMCPY = 1
    MEMSET = 2
    HOST = 3
    GRAPH = 4
    EMPTY = 5
    WAIT_EVENT = 6
    EVENT_RECORD = 7
    MEM_ALLOC = 10
    MEM_FREE = 11


@dataclass(frozen=True, eq=False, slots=True)
class Task:
    """Work on ``context``'s GPU. ``run`` may be called any number of times. ``parameters`` are what the node was made
    with, in whatever form its own calls keep them; those of a child node are its graph."""

    type: NodeType
    context: Context
    run: Run
    parameters: object = None


def nothing(context: Context) -> Task:
    """What an empty node does."""
    return Task(NodeType.EMPTY, context, lambda ready_ns, _: ready_ns)


@dataclass(eq=False, slots=True)
class Node:
    """One node. ``after``: those that must be done before it. ``original``: what it was cloned from."""

    graph: Graph
    task: Task
    after: list[Node]
    handle: int = 0
    original: Node | None = None


@dataclass(eq=False, slots=True)
class UserObject:
    """Something of the program's that ``destroy`` gives back with the last reference."""

    destroy: Callable[[], None]
    references: int

    def release(self, count: int) -> None:
        """Give ``count`` references back. INVALID_VALUE for more than there are."""
        require(count <= self.references)
        self.references -= count
        if count and not self.references:
            self.destroy()


@dataclass(eq=False, slots=True)
class Graph:
    """Nodes in the order in which they were added, and how many references to user objects it holds. ``embedded``: it
    is the content of a child node. ``executables`` of it exist."""

    nodes: list[Node] = field(default_factory=list)
    objects: dict[UserObject, int] = field(default_factory=dict)
    handle: int = 0
    embedded: bool = False
    closed: bool = False
    executables: int = 0

    @property
    def allocates(self) -> bool:
        """Whether any node allocates or frees memory: such a graph can be cloned, embedded, taken apart by nobody."""
        return any(node.task.type in (NodeType.MEM_ALLOC, NodeType.MEM_FREE) for node in self.nodes)

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

    graph: Graph
    steps: tuple[Step, ...]
    objects: tuple[UserObject, ...] = ()
    flags: int = 0
    handle: int = 0
    last: Op | None = None
