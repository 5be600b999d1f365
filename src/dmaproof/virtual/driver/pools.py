"""Pools of stream-ordered memory: what they hold of a GPU's memory, and who may use what comes from them."""

from __future__ import annotations

from dataclasses import dataclass, field

from dmaproof.virtual.driver.gpus import Device
from dmaproof.virtual.driver.rights import CPU, READ_WRITE

PINNED, MANAGED = 1, 2
"""CUmemAllocationType (cuda.h)."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a pool's memory is: its ``kind`` (CUmemAllocationType), and where (CUmemLocation)."""

    kind: int
    location: int
    number: int = 0


@dataclass(eq=False, slots=True)
class Pool:
    """``held`` bytes are freed and kept for later, ``used`` ones are allocated; ``most`` is a limit to both (0: none).

    ``device`` has the memory; None for pools of the host and of managed memory. Rights (``access``) to managed memory
    are everybody's. ``threshold``: how much a pool keeps when memory is freed (CU_MEMPOOL_ATTR_RELEASE_THRESHOLD).
    ``flags``: the three that say what may be used again before a stream is done; kept, and of no effect here.
    ``fd`` is the file that stands for it in other processes, where ``imported`` that of another process's pool.
    """

    place: Place
    device: Device | None
    most: int = 0
    threshold: int = 0
    flags: dict[int, int] = field(default_factory=dict)
    access: dict[int, int] = field(default_factory=dict)
    held: int = 0
    used: int = 0
    used_high: int = 0
    reserved_high: int = 0
    destroyed: bool = False
    handle_types: int = 0
    fd: int | None = None
    imported: bool = False

    def __post_init__(self) -> None:
        self.access[self.home] = READ_WRITE

    @property
    def home(self) -> int:
        """Who always may use the memory: its GPU, or the host."""
        return CPU if self.device is None else self.device.ordinal

    @property
    def reserved(self) -> int:
        return self.held + self.used

    def fits(self, nbytes: int) -> bool:
        """Within the pool's own limit and what its GPU has left."""
        if self.device is not None and nbytes > self.device.memory_nbytes - self.device.used_nbytes + self.held:
            return False
        return not self.most or self.used + nbytes <= self.most

    def take(self, nbytes: int) -> None:
        """``nbytes`` are allocated; what is held serves first."""
        self._drop(min(nbytes, self.held))
        self.used += nbytes
        self.used_high = max(self.used_high, self.used)
        self.reserved_high = max(self.reserved_high, self.reserved)

    def take_back(self, nbytes: int) -> None:
        """``nbytes`` are free again; they stay here as far as the threshold allows."""
        self.used -= nbytes
        self._hold(0 if self.destroyed else min(nbytes, max(self.threshold - self.reserved, 0)))

    def trim(self, keep: int) -> None:
        """Hold no more than it takes to have ``keep`` bytes with those that are used."""
        self._drop(max(self.reserved - max(keep, self.used), 0))

    def _drop(self, nbytes: int) -> None:
        self._hold(-nbytes)

    def _hold(self, nbytes: int) -> None:
        self.held += nbytes
        if self.device is not None:
            self.device.used_nbytes += nbytes


@dataclass(slots=True)
class PlacePools:
    """By place, the handle of the pool that it comes with, once anyone asked for it, and of the one set instead."""

    default: dict[Place, int] = field(default_factory=dict)
    chosen: dict[Place, int] = field(default_factory=dict)

    def forget(self, handle: int) -> None:
        """The pool is gone: where it was chosen, the default one is current again."""
        self.chosen = {place: one for place, one in self.chosen.items() if one != handle}
