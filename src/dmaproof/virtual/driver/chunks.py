"""The contents of GPU memory: 2 MiB chunks that are shared by reference, so that copying and filling large buffers
costs a list of references, and bytes are made only where something looks at them.

Every memory has ``read(offset, nbytes)`` and ``write(offset, data)`` over numpy uint8; ``copy`` moves between any two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
CHUNK = 2 << 20


class Memory(Protocol):
    """``read`` may return a view that later writes change; ``write`` copies."""

    def read(self, offset: int, nbytes: int) -> Bytes: ...

    def write(self, offset: int, data: Bytes) -> None: ...


class Sparse:
    """Host memory that can tell what nobody has written yet."""

    def untouched(self, offset: int, nbytes: int) -> bool:
        """Whether nobody has touched the range: it reads as zeros."""
        raise NotImplementedError


class Chunk:
    """Up to CHUNK bytes. A shared chunk is never written again; its bytes may not have been made yet. Made chunks of
    equal ``content`` have equal bytes."""

    __slots__ = ("_array", "_make", "content", "shared")

    def __init__(
        self, array: Bytes | None = None, make: Callable[[], Bytes] | None = None, content: object = None
    ) -> None:
        self._array, self._make, self.content, self.shared = array, make, content, make is not None

    def bytes(self) -> Bytes:
        if self._array is None:
            assert self._make is not None  # noqa: S101 - a chunk has bytes or a way to make them
            self._array = self._make()
        return self._array

    def look(self) -> Bytes:
        """The bytes, not kept where they can be made again: whoever compares gigabytes needs each but once."""
        if self._array is None and self._make is not None:
            return self._make()
        return self.bytes()


@lru_cache(maxsize=512)
def filled(unit: bytes, nbytes: int) -> Chunk:
    """A chunk of ``nbytes`` that repeats ``unit``."""
    return Chunk(make=lambda: np.frombuffer(unit * (nbytes // len(unit)), np.uint8))


class DeviceMemory:
    """``nbytes`` of GPU memory, zero at first (the driver scrubs what it hands out)."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.backed = False
        sizes = [CHUNK] * (nbytes // CHUNK) + ([nbytes % CHUNK] if nbytes % CHUNK else [])
        self.chunks = [filled(b"\0", size) for size in sizes]

    def back(self, array: Bytes, keep: bool = True) -> None:
        """Have every byte in ``array`` from now on, which other processes see and change too. ``array`` is of zeros
        and takes what the memory holds, or it is the memory's content where that is not to be kept."""
        for number, chunk in enumerate(self.chunks):
            part = array[number * CHUNK : min((number + 1) * CHUNK, self.nbytes)]
            if keep and chunk is not filled(b"\0", len(part)):
                part[:] = chunk.bytes()
            self.chunks[number] = Chunk(part)
        self.backed = True

    def pieces(self, offset: int, nbytes: int) -> Iterator[tuple[int, int, int]]:
        """(chunk number, start in it, length) of the range, in order."""
        end = offset + nbytes
        while offset < end:
            number, start = divmod(offset, CHUNK)
            length = min(CHUNK - start, end - offset)
            yield number, start, length
            offset += length

    def whole(self, number: int, start: int, length: int) -> bool:
        """Whether that is all of a chunk, which may then be replaced by another; not where bytes have their place."""
        return not self.backed and start == 0 and length == min(CHUNK, self.nbytes - number * CHUNK)

    def read(self, offset: int, nbytes: int) -> Bytes:
        parts = [self.chunks[n].bytes()[s : s + length] for n, s, length in self.pieces(offset, nbytes)]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty(0, np.uint8)

    def write(self, offset: int, data: Bytes) -> None:
        done = 0
        for number, start, length in self.pieces(offset, len(data)):
            part = data[done : done + length]
            if self.whole(number, start, length) and self.chunks[number].shared:
                self.chunks[number] = Chunk(part.copy())
            else:
                self.own(number)[start : start + length] = part
            done += length

    def own(self, number: int) -> Bytes:
        """The bytes of chunk ``number``, to be written in place."""
        if self.chunks[number].shared:
            self.chunks[number] = Chunk(self.chunks[number].bytes().copy())
        return self.chunks[number].bytes()

    def share(self, number: int) -> Chunk:
        """Chunk ``number``, for another memory to hold as well."""
        self.chunks[number].shared = True
        return self.chunks[number]

    def fill(self, offset: int, nbytes: int, unit: bytes) -> None:
        """Repeat ``unit`` over the range; ``offset`` and ``nbytes`` are multiples of its length."""
        for number, start, length in self.pieces(offset, nbytes):
            if self.whole(number, start, length):
                self.chunks[number] = filled(unit, length)
            else:
                self.own(number)[start : start + length] = filled(unit, length).bytes()


def copy(target: Memory, target_offset: int, source: Memory, source_offset: int, nbytes: int) -> None:
    """Move ``nbytes``; whole chunks by reference between device memories, and where host memory was never touched."""
    done = _whole_chunks(target, target_offset, source, source_offset, nbytes)
    done = done or _whole_zeros(target, target_offset, source, source_offset, nbytes)
    while done < nbytes:
        to, of = target_offset + done, source_offset + done
        length = min(CHUNK - to % CHUNK, nbytes - done)
        if not _by_reference(target, to, source, of, length) and not _zeros(target, to, source, of, length):
            target.write(to, source.read(of, length))
        done += length


def _whole_chunks(target: Memory, to: int, source: Memory, of: int, nbytes: int) -> int:
    """Share all chunks of a range that begins with a chunk at both ends; how many bytes that moved."""
    if not isinstance(target, DeviceMemory) or not isinstance(source, DeviceMemory) or to % CHUNK or of % CHUNK:
        return 0
    if target.backed or source.backed:
        return 0
    count = nbytes // CHUNK
    moved = source.chunks[of // CHUNK : of // CHUNK + count]
    for chunk in moved:
        chunk.shared = True
    target.chunks[to // CHUNK : to // CHUNK + count] = moved
    return count * CHUNK


def _whole_zeros(target: Memory, to: int, source: Memory, of: int, nbytes: int) -> int:
    """As _whole_chunks, where one end is host memory of which nobody has touched any, and the rest is zeros too."""
    zeros, whole = [filled(b"\0", CHUNK)] * (nbytes // CHUNK), nbytes // CHUNK * CHUNK
    if isinstance(target, DeviceMemory) and isinstance(source, Sparse):
        if target.backed or to % CHUNK or not source.untouched(of, whole):
            return 0
        target.chunks[to // CHUNK : to // CHUNK + len(zeros)] = zeros
        return whole
    if isinstance(target, Sparse) and isinstance(source, DeviceMemory) and of % CHUNK == 0:
        same = source.chunks[of // CHUNK : of // CHUNK + len(zeros)] == zeros  # the same objects: Chunk has no __eq__
        return whole if same and target.untouched(to, whole) else 0
    return 0


def _by_reference(target: Memory, to: int, source: Memory, of: int, length: int) -> bool:
    if not isinstance(target, DeviceMemory) or not isinstance(source, DeviceMemory):
        return False
    whole = target.whole(to // CHUNK, to % CHUNK, length) and source.whole(of // CHUNK, of % CHUNK, length)
    if whole:
        target.chunks[to // CHUNK] = source.share(of // CHUNK)
    return whole


def _zeros(target: Memory, to: int, source: Memory, of: int, length: int) -> bool:
    """Host memory that nobody has touched is zeros: none need be read from it, nor written to it."""
    if isinstance(target, DeviceMemory) and isinstance(source, Sparse):
        whole = target.whole(to // CHUNK, to % CHUNK, length) and source.untouched(of, length)
        if whole:
            target.chunks[to // CHUNK] = filled(b"\0", length)
        return whole
    if isinstance(target, Sparse) and isinstance(source, DeviceMemory):
        chunk = source.chunks[of // CHUNK]
        end = of % CHUNK + length
        return end <= CHUNK and chunk is filled(b"\0", _length(source, of)) and target.untouched(to, length)
    return False


def _length(memory: DeviceMemory, offset: int) -> int:
    """Of the chunk at ``offset``."""
    return min(CHUNK, memory.nbytes - offset // CHUNK * CHUNK)
