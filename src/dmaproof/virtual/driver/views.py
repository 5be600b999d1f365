"""Memory that is seen otherwise than it lies: astray, in several pieces, or nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dmaproof.virtual.driver.chunks import Bytes, DeviceMemory, Memory, copy

Stretch = tuple[int, int]
"""The offsets where it begins and ends."""


class Mirror:
    """What one GPU sees of another's memory after its writes went astray: its own data where it wrote, the owner's
    memory elsewhere. The owner sees none of it."""

    def __init__(self, base: Memory, nbytes: int) -> None:
        self._base, self._own = base, DeviceMemory(nbytes)
        self._written: list[Stretch] = []

    def taking(self, offset: int, nbytes: int) -> Memory:
        """Where what is written to the range goes. It holds the owner's data until then: not all need be written."""
        for start, end in _gaps(self._written, (offset, offset + nbytes)):
            copy(self._own, start, self._base, start, end - start)
        self._written = _merged([*self._written, (offset, offset + nbytes)])
        return self._own

    def showing(self, offset: int, nbytes: int) -> Memory:
        """Where the range is read: in one memory if it can be, for those are moved by whole chunks."""
        gaps = _gaps(self._written, (offset, offset + nbytes))
        if not gaps:
            return self._own
        return self._base if gaps == [(offset, offset + nbytes)] else self

    def read(self, offset: int, nbytes: int) -> Bytes:
        seen = self._own.read(offset, nbytes).copy()
        for start, end in _gaps(self._written, (offset, offset + nbytes)):
            seen[start - offset : end - offset] = self._base.read(start, end - start)
        return seen

    def write(self, offset: int, data: Bytes) -> None:
        self.taking(offset, len(data)).write(offset, data)


def _gaps(stretches: list[Stretch], within: Stretch) -> list[Stretch]:
    """What of ``within`` is in none of ``stretches``, which are apart and in order."""
    found, at = [], within[0]
    for start, end in stretches:
        if start >= within[1]:
            break
        if start > at:
            found.append((at, start))
        at = max(at, end)
    return [*found, (at, within[1])] if at < within[1] else found


def _merged(ranges: list[Stretch]) -> list[Stretch]:
    merged: list[Stretch] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


class Joined:
    """Several memories one after the other: (offset, length, memory) each, from offset 0 on without a gap."""

    def __init__(self, parts: Sequence[tuple[int, int, Memory]]) -> None:
        self._parts = parts

    def read(self, offset: int, nbytes: int) -> Bytes:
        pieces = [memory.read(of, length) for memory, of, length, _ in self._pieces(offset, nbytes)]
        return np.concatenate(pieces) if pieces else np.empty(0, np.uint8)

    def write(self, offset: int, data: Bytes) -> None:
        for memory, to, length, done in self._pieces(offset, len(data)):
            memory.write(to, data[done : done + length])

    def _pieces(self, offset: int, nbytes: int) -> Iterator[tuple[Memory, int, int, int]]:
        for start, length, memory in self._parts:
            low, high = max(start, offset), min(start + length, offset + nbytes)
            if low < high:
                yield memory, low - start, high - low, low - offset


class Nowhere:
    """Memory that does not answer: writes are lost, reads end in all ones, as an aborted PCIe read does."""

    def read(self, offset: int, nbytes: int) -> Bytes:  # noqa: ARG002
        return np.full(nbytes, 0xFF, np.uint8)

    def write(self, offset: int, data: Bytes) -> None:  # noqa: ARG002
        return
