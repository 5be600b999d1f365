"""Memory that nodes of graphs allocate and free (CUDA C++ Programming Guide, "Graph Memory Nodes").

Its address is fixed when the node is added. Until a launch allocates it, and after whatever frees it, nobody may use
it. What a GPU gave for it stays taken until it is trimmed (cuDeviceGraphMemTrim).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dmaproof.virtual.driver.address_space import Allocation
from dmaproof.virtual.driver.errors import CuResult, DriverError, require
from dmaproof.virtual.driver.gpus import Device
from dmaproof.virtual.driver.graphs import Graph, NodeType, Step, Task


@dataclass(eq=False, slots=True)
class GraphMemory:
    """``promised``: allocated, as far as the work says that was submitted. ``rights`` by ordinal, while it is there.
    ``mapped``: the GPU gives memory for it. ``freed_by``: graphs with a node that frees it."""

    found: Allocation
    device: Device
    owner: Graph
    rights: dict[int, int]
    promised: bool = False
    mapped: bool = False
    freed_by: list[Graph] = field(default_factory=list)

    def begin(self) -> None:
        """Allocated."""
        assert self.found.access is not None  # noqa: S101
        self.found.access.update(self.rights)

    def end(self) -> None:
        """Freed."""
        assert self.found.access is not None  # noqa: S101
        self.found.access.clear()

    def ending(self, ready_ns: float, _: float) -> float:
        """Work that frees it."""
        self.end()
        return ready_ns

    def take_back(self) -> None:
        """Something that frees it is submitted. INVALID_VALUE where that has happened before."""
        require(self.promised)
        self.promised = False

    def free_in(self, graph: Graph) -> None:
        """``graph`` gets a node that frees it: its owner or others, never both, and each but once (cuda.h,
        cuGraphAddMemAllocNode). INVALID_VALUE."""
        require(graph not in self.freed_by and self.owner not in self.freed_by)
        require(graph is not self.owner or not self.freed_by)
        self.freed_by.append(graph)


@dataclass(slots=True)
class Usage:
    """Bytes that a GPU gives for graphs' memory, and the most since the mark was set back."""

    now: int = 0
    used_high: int = 0
    reserved_high: int = 0


class GraphMemories:
    """All such memory by address, and what each GPU (by ordinal) gives for it."""

    def __init__(self) -> None:
        self._by_va: dict[int, GraphMemory] = {}
        self._usage: dict[int, Usage] = {}

    def add(self, memory: GraphMemory) -> None:
        self._by_va[memory.found.va] = memory

    def get(self, va: int) -> GraphMemory | None:
        """That which starts at ``va``."""
        return self._by_va.get(va)

    def forgotten(self) -> list[GraphMemory]:
        """What no graph and no executable can bring back any more; it is left out from now on."""
        gone = [one for one in self._by_va.values() if not one.promised and one.owner.closed]
        gone = [one for one in gone if not one.owner.executables and not one.found.access]
        for one in gone:
            del self._by_va[one.found.va]
        return gone

    def usage(self, device: Device) -> Usage:
        return self._usage.setdefault(device.ordinal, Usage())

    def trim(self, device: Device) -> None:
        """``device`` gets back what no launch has promised."""
        usage, kept = self.usage(device), 0
        for one in self._by_va.values():
            if one.device is device:
                one.mapped = one.mapped and one.promised
                kept += one.found.nbytes if one.mapped else 0
        device.used_nbytes -= usage.now - kept
        usage.now = kept

    def map(self, memory: GraphMemory) -> None:
        """The GPU gives memory for it. OUT_OF_MEMORY."""
        if memory.mapped:
            return
        device, nbytes, usage = memory.device, memory.found.nbytes, self.usage(memory.device)
        if nbytes > device.memory_nbytes - device.used_nbytes:
            self.trim(device)
        if nbytes > device.memory_nbytes - device.used_nbytes:
            raise DriverError(CuResult.OUT_OF_MEMORY)
        device.used_nbytes += nbytes
        usage.now += nbytes
        usage.used_high, usage.reserved_high = max(usage.used_high, usage.now), max(usage.reserved_high, usage.now)
        memory.mapped = True


def allocated(task: Task) -> GraphMemory | None:
    """What a node allocates."""
    return task.parameters if task.type is NodeType.MEM_ALLOC and isinstance(task.parameters, GraphMemory) else None


def freed(task: Task) -> GraphMemory | None:
    """What a node frees."""
    return task.parameters if task.type is NodeType.MEM_FREE and isinstance(task.parameters, GraphMemory) else None


def promise(memories: GraphMemories, steps: tuple[Step, ...]) -> None:
    """A launch of ``steps`` is submitted. INVALID_VALUE where it allocates what is still there or frees what is not,
    OUT_OF_MEMORY."""
    coming = [one for one in (allocated(step.task) for step in steps) if one is not None]
    going = [one for one in (freed(step.task) for step in steps) if one is not None]
    require(not any(one.promised for one in coming))
    require(all(one.promised or one in coming for one in going))
    for one in coming:
        memories.map(one)
    for one in coming:
        one.promised = True
    for one in going:
        one.promised = False
