"""Memory that is seen otherwise than it lies: astray, in several pieces, or nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dmaproof.virtual.driver.chunks import Bytes, DeviceMemory, Memory


class Mirror:
    """What one GPU sees of another's memory after its writes went astray: its own data where it wrote, the owner's
    memory elsewhere. The owner sees none of it."""

    def __init__(self, base: Memory, nbytes: int) -> None:
        self._base, self._own = base, DeviceMemory(nbytes)
        self._written = np.zeros(0, np.int64).reshape(0, 2)

    def read(self, offset: int, nbytes: int) -> Bytes:
        seen = self._base.read(offset, nbytes).copy()
        for start, end in self._written:
            low, high = max(int(start), offset), min(int(end), offset + nbytes)
            if low < high:
                seen[low - offset : high - offset] = self._own.read(low, high - low)
        return seen

    def write(self, offset: int, data: Bytes) -> None:
        self._own.write(offset, data)
        ranges = [*((int(s), int(e)) for s, e in self._written), (offset, offset + len(data))]
        self._written = np.array(_merged(ranges), np.int64).reshape(-1, 2)


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
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
