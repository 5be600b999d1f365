"""Counterparts of dmaproof/cuda/kernels/memory.cu."""

from __future__ import annotations

import numpy as np

from dmaproof.virtual.driver.access import Span
from dmaproof.virtual.driver.chunks import CHUNK, DeviceMemory, copy
from dmaproof.virtual.driver.errors import CuResult, DriverError
from dmaproof.virtual.driver.kernels import pattern
from dmaproof.virtual.driver.kernels.counterpart import Launch, counterpart

_WORD, _VECTOR = 4, 16


def _aligned(address: int, nbytes: int) -> None:
    if address % nbytes:
        raise DriverError(CuResult.MISALIGNED_ADDRESS)


def _blocks(span: Span, at: int = 0) -> list[tuple[int, int]]:
    """(offset, length) of the span from ``at`` on, cut where its memory's chunks end."""
    cuts = []
    while at < span.nbytes:
        length = min(CHUNK - (span.offset + at) % CHUNK, span.nbytes - at)
        cuts.append((at, length))
        at += length
    return cuts


def _whole_chunk(span: Span, at: int, length: int) -> int | None:
    """The number of the device chunk that the block covers exactly, if it does."""
    memory, number = span.memory, (span.offset + at) // CHUNK
    if isinstance(memory, DeviceMemory) and memory.whole(number, (span.offset + at) % CHUNK, length):
        return number
    return None


def _whole_chunks(span: Span) -> slice | None:
    """The chunks of GPU memory that the span begins with, where it begins with one."""
    memory, first = span.memory, span.offset // CHUNK
    if not isinstance(memory, DeviceMemory) or memory.backed or span.offset % CHUNK:
        return None
    return slice(first, first + span.nbytes // CHUNK)


@counterpart("dmaproof_fill", "pointer", "u64", "u32")
def fill(launch: Launch, words: int, nwords: int, seed: int) -> None:
    _aligned(words, _WORD)
    if not nwords:
        return
    span = launch.operation.span(words, nwords * _WORD, "write")
    many, memory = _whole_chunks(span), span.memory
    done = 0
    if many is not None and isinstance(memory, DeviceMemory):
        memory.chunks[many] = pattern.chunks(many.stop - many.start, CHUNK // _WORD, seed)
        done = (many.stop - many.start) * CHUNK
    for at, length in _blocks(span, done):
        number = _whole_chunk(span, at, length)
        if number is not None and isinstance(memory, DeviceMemory):
            memory.chunks[number] = pattern.chunk(at // _WORD, length // _WORD, seed)
        else:
            span.write(at, pattern.words(at // _WORD, length // _WORD, seed).view(np.uint8))


@counterpart("dmaproof_verify", "pointer", "u64", "u32", "pointer")
def verify(launch: Launch, words: int, nwords: int, seed: int, result: int) -> None:
    _aligned(words, _WORD)
    _aligned(result, 8)
    if not nwords:
        return
    span = launch.operation.span(words, nwords * _WORD, "read")
    count, lowest = 0, None
    for at, length in _blocks(span, _right(span, seed)):
        wrong = _wrong(span, at, length, seed)
        count += len(wrong)
        if lowest is None and len(wrong):
            lowest = at // _WORD + int(wrong[0])
    if lowest is not None:  # only a difference touches the result
        counters = launch.operation.span(result, 16, "atomic")
        found = counters.read().copy().view(np.uint64)
        found[0] += np.uint64(count)
        found[1] = min(found[1], np.uint64(lowest))
        counters.write(0, found.view(np.uint8))


def _right(span: Span, seed: int) -> int:
    """How many bytes from the start are the very chunks that dmaproof_fill put there: all whole ones, or none."""
    many, memory = _whole_chunks(span), span.memory
    if many is None or not isinstance(memory, DeviceMemory):
        return 0
    count = many.stop - many.start
    same = memory.chunks[many] == list(pattern.chunks(count, CHUNK // _WORD, seed))  # objects: Chunk has no __eq__
    return count * CHUNK if same else 0


def _wrong(span: Span, at: int, length: int, seed: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """The indices in the block, from its start, of words that differ from the pattern."""
    number = _whole_chunk(span, at, length)
    right = pattern.chunk(at // _WORD, length // _WORD, seed)
    if number is not None and isinstance(span.memory, DeviceMemory):
        chunk = span.memory.chunks[number]
        if chunk.content == right.content:
            return np.empty(0, np.intp)
        return np.flatnonzero(chunk.look().view(np.uint32) != right.look().view(np.uint32))
    seen = np.ascontiguousarray(span.read(at, length)).view(np.uint32)
    return np.flatnonzero(seen != pattern.words(at // _WORD, length // _WORD, seed))


@counterpart("dmaproof_increment", "pointer", "u64")
def increment(launch: Launch, words: int, nwords: int) -> None:
    _aligned(words, _WORD)
    if not nwords:
        return
    read = launch.operation.span(words, nwords * _WORD, "read")
    write = launch.operation.span(words, nwords * _WORD, "write")
    for at, length in _blocks(read):
        changed = np.ascontiguousarray(read.read(at, length)).view(np.uint32) + np.uint32(1)
        write.write(at, changed.view(np.uint8))


@counterpart("dmaproof_copy", "pointer", "pointer", "u64")
def copy_vectors(launch: Launch, target: int, source: int, nchunks: int) -> None:
    _aligned(target, _VECTOR)
    _aligned(source, _VECTOR)
    if nchunks:
        of = launch.operation.span(source, nchunks * _VECTOR, "read")
        to = launch.operation.span(target, nchunks * _VECTOR, "write")
        copy(to.memory, to.offset, of.memory, of.offset, nchunks * _VECTOR)
