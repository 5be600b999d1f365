"""Unified addressing: one range of addresses for all memory that CUDA knows.

Device memory gets addresses from a range that is mapped without access, so that the operating system gives none of
them to anything else and a CPU that follows a device pointer faults. A freed address is handed out again as late as
possible: until then, using it is the error that it is.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from dmaproof.virtual.driver.chunks import Memory
from dmaproof.virtual.driver.errors import CuResult, DriverError
from dmaproof.virtual.driver.host import NO_ACCESS, map_anonymous
from dmaproof.virtual.driver.views import Joined, Mirror

if TYPE_CHECKING:
    from dmaproof.virtual.driver.gpus import Context

GRANULE = 2 << 20
Kind = Literal["device", "pinned", "registered", "managed"]
Origin = Literal["alloc", "pool", "vmm", "ipc", "graph"]
"""Which calls it came by, and so which give it back: cuMemAlloc and its kin, pools, cuMemMap, cuIpcOpenMemHandle, nodes
of graphs."""


@dataclass(eq=False, slots=True)
class Allocation:
    """``nbytes`` at ``va``. ``gpu`` is the ordinal of the GPU that holds it (device), else of the context it came from.

    ``mirrors``: by ordinal of a GPU whose writes here went astray, what that GPU sees instead. ``flags`` as given.
    ``access``: rights by GPU ordinal where they are given out for this memory (dmaproof.virtual.driver.rights).
    ``handle_types``: as what it may be exported. ``exported`` is the file that other processes open for it, ``backing``
    what cuMemMap mapped. ``context`` is the one it goes with; None for memory that is no context's.
    """

    va: int
    nbytes: int
    kind: Kind
    gpu: int
    memory: Memory
    flags: int = 0
    pool: int = 0
    by: Origin = "alloc"
    access: dict[int, int] | None = None
    handle_types: int = 0
    exported: int | None = None
    backing: object | None = None
    context: Context | None = None
    mirrors: dict[int, Mirror] = field(default_factory=dict)

    @property
    def end(self) -> int:
        return self.va + self.nbytes

    def seen_by(self, gpu: int, offset: int, nbytes: int) -> Memory:
        """Where ``gpu`` reads the range."""
        mirror = self.mirrors.get(gpu)
        return mirror.showing(offset, nbytes) if mirror else self.memory


@dataclass(frozen=True, slots=True)
class Reservation:
    """``nbytes`` of addresses that are set aside for mappings (cuMemAddressReserve)."""

    va: int
    nbytes: int

    @property
    def end(self) -> int:
        return self.va + self.nbytes


class AddressSpace:
    """All live allocations. ``device_room`` is how many bytes of addresses to reserve for device memory."""

    def __init__(self, device_room: int) -> None:
        room = -(-device_room // GRANULE) * GRANULE
        # PROT_NONE without reservation: costs addresses, no memory.
        self._base = -(-map_anonymous(room + GRANULE, NO_ACCESS) // GRANULE) * GRANULE
        self._end, self._cursor = self._base + room, self._base
        self._starts: list[int] = []
        self._live: dict[int, Allocation] = {}
        self._reserved: dict[int, Reservation] = {}

    def add(self, allocation: Allocation) -> Allocation:
        insort(self._starts, allocation.va)
        self._live[allocation.va] = allocation
        return allocation

    def remove(self, allocation: Allocation) -> None:
        self._starts.remove(allocation.va)
        del self._live[allocation.va]

    def find(self, va: int, nbytes: int = 1) -> Allocation | None:
        """The live allocation that holds ``va``; where ``nbytes`` go on into mappings behind it, they are one."""
        index = bisect_right(self._starts, va) - 1
        if index < 0:
            return None
        found = self._live[self._starts[index]]
        if va >= found.end:
            return None
        return self._joined(found, va + nbytes) if found.by == "vmm" and va + nbytes > found.end else found

    def _joined(self, first: Allocation, end: int) -> Allocation:
        """``first`` and the mappings of its kind right behind it, up to ``end``, with the rights that all have."""
        parts = [first]
        while parts[-1].end < end:
            behind = self._live.get(parts[-1].end)
            if behind is None or (behind.by, behind.kind, behind.gpu) != (first.by, first.kind, first.gpu):
                break
            parts.append(behind)
        rights = [one.access or {} for one in parts]
        access = {ordinal: min(one.get(ordinal, 0) for one in rights) for ordinal in rights[0]}
        memory = Joined([(one.va - first.va, one.nbytes, one.memory) for one in parts])
        nbytes = parts[-1].end - first.va
        return Allocation(first.va, nbytes, first.kind, first.gpu, memory, by="vmm", access=access)

    def overlaps(self, va: int, nbytes: int) -> bool:
        """Whether any live allocation has a byte of the range."""
        index = bisect_right(self._starts, va + nbytes - 1) - 1
        return index >= 0 and self._live[self._starts[index]].end > va

    def reserve(self, nbytes: int, alignment: int) -> Reservation:
        """Set addresses aside. OUT_OF_MEMORY where there are none left."""
        start = self.device_address(nbytes + max(alignment - GRANULE, 0))
        one = Reservation(-(-start // max(alignment, 1)) * max(alignment, 1), nbytes)
        self._reserved[one.va] = one
        return one

    def reservation(self, va: int) -> Reservation | None:
        """The reservation that holds ``va``."""
        return next((one for one in self._reserved.values() if one.va <= va < one.end), None)

    def unreserve(self, one: Reservation) -> None:
        del self._reserved[one.va]

    def at(self, va: int, *kinds: Kind, by: tuple[Origin, ...] = ("alloc", "pool")) -> Allocation:
        """The live allocation of one of ``kinds`` that starts at ``va``; INVALID_VALUE where there is none."""
        found = self._live.get(va)
        if found is None or found.kind not in kinds or found.by not in by:
            raise DriverError(CuResult.INVALID_VALUE)
        return found

    def all(self) -> list[Allocation]:
        return list(self._live.values())

    def is_device_address(self, va: int) -> bool:
        """Whether ``va`` is, or once was or may become, an address of device memory."""
        return self._base <= va < self._end

    def device_address(self, nbytes: int) -> int:
        """A free address for ``nbytes``, after all that were given out before, as long as there are any."""
        length = -(-nbytes // GRANULE) * GRANULE
        for start in (self._cursor, self._base):
            found = self._free_from(start, length)
            if found is not None:
                self._cursor = found + length
                return found
        raise DriverError(CuResult.OUT_OF_MEMORY)

    def _free_from(self, start: int, length: int) -> int | None:
        at = start
        for low, high in self._taken(start):
            if high <= at:
                continue
            if at + length <= low:
                break
            at = -(-high // GRANULE) * GRANULE
        return at if at + length <= self._end else None

    def _taken(self, start: int) -> list[tuple[int, int]]:
        """Address ranges of device memory and reservations from about ``start`` on, in order."""
        live = (self._live[one] for one in self._starts[max(bisect_right(self._starts, start) - 1, 0) :])
        held = [(one.va, one.end) for one in live if one.kind == "device"]
        return sorted(held + [(one.va, one.end) for one in self._reserved.values()])
