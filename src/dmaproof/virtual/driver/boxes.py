"""What a copy moves: rows of bytes, one or many, with gaps between them at either end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

Pitches = tuple[int, int]
"""Bytes from the start of a row to that of the next, and from a slice of rows to the next."""


@dataclass(frozen=True, slots=True)
class Box:
    """``depth`` slices of ``height`` rows of ``width_nbytes`` bytes, and how they lie at each end."""

    width_nbytes: int
    height: int = 1
    depth: int = 1
    target: Pitches = (0, 0)
    source: Pitches = (0, 0)

    @property
    def nbytes(self) -> int:
        return self.width_nbytes * self.height * self.depth

    def extent_nbytes(self, pitches: Pitches) -> int:
        """From the first byte to behind the last one, at the end that lies so."""
        if not self.nbytes:
            return 0
        return (self.depth - 1) * pitches[1] + (self.height - 1) * pitches[0] + self.width_nbytes

    def rows(self) -> Iterator[tuple[int, int, int]]:
        """(offset in the target, offset in the source, length) of each stretch without a gap."""
        if self.extent_nbytes(self.target) == self.extent_nbytes(self.source) == self.nbytes:
            yield 0, 0, self.nbytes
            return
        for slice_at in range(self.depth):
            for row in range(self.height):
                to, of = (slice_at * one[1] + row * one[0] for one in (self.target, self.source))
                yield to, of, self.width_nbytes
