"""Unified addressing: one range of addresses for all memory that CUDA knows.

Device memory gets addresses from a range that is mapped without access, so that the operating system gives none of
them to anything else and a CPU that follows a device pointer faults. A freed address is handed out again as late as
possible: until then, using it is the error that it is.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass, field
from typing import Literal

from dmaproof.virtual.driver.chunks import Memory, Mirror
from dmaproof.virtual.driver.errors import CuResult, DriverError
from dmaproof.virtual.driver.host import NO_ACCESS, map_anonymous

GRANULE = 2 << 20
Kind = Literal["device", "pinned", "registered", "managed"]


@dataclass(eq=False, slots=True)
class Allocation:
    """``nbytes`` at ``va``. ``gpu`` is the ordinal of the GPU that holds it (device), else of the context it came from.

    ``mirrors``: by ordinal of a GPU whose writes here went astray, what that GPU sees instead. ``flags`` as given.
    """

    va: int
    nbytes: int
    kind: Kind
    gpu: int
    memory: Memory
    flags: int = 0
    pool: int = 0
    mirrors: dict[int, Mirror] = field(default_factory=dict)

    @property
    def end(self) -> int:
        return self.va + self.nbytes

    def seen_by(self, gpu: int) -> Memory:
        return self.mirrors.get(gpu, self.memory)


class AddressSpace:
    """All live allocations. ``device_room`` is how many bytes of addresses to reserve for device memory."""

    def __init__(self, device_room: int) -> None:
        room = -(-device_room // GRANULE) * GRANULE
        # PROT_NONE without reservation: costs addresses, no memory.
        self._base = -(-map_anonymous(room + GRANULE, NO_ACCESS) // GRANULE) * GRANULE
        self._end, self._cursor = self._base + room, self._base
        self._starts: list[int] = []
        self._live: dict[int, Allocation] = {}

    def add(self, allocation: Allocation) -> Allocation:
        insort(self._starts, allocation.va)
        self._live[allocation.va] = allocation
        return allocation

    def remove(self, allocation: Allocation) -> None:
        self._starts.remove(allocation.va)
        del self._live[allocation.va]

    def find(self, va: int) -> Allocation | None:
        """The live allocation that holds ``va``."""
        index = bisect_right(self._starts, va) - 1
        if index < 0:
            return None
        found = self._live[self._starts[index]]
        return found if va < found.end else None

    def at(self, va: int, *kinds: Kind) -> Allocation:
        """The live allocation of one of ``kinds`` that starts at ``va``; INVALID_VALUE where there is none."""
        found = self._live.get(va)
        if found is None or found.kind not in kinds:
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
        for taken in self._starts[max(bisect_right(self._starts, start) - 1, 0) :]:
            one = self._live[taken]
            if one.kind != "device" or one.end <= at:
                continue
            if at + length <= one.va:
                break
            at = -(-one.end // GRANULE) * GRANULE
        return at if at + length <= self._end else None
