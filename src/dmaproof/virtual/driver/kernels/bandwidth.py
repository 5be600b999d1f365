"""Counterparts of dmaproof/cuda/kernels/bandwidth.cu and tma.cu: the bytes move once, the clock counts every round."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import numpy as np

from dmaproof.virtual.driver.access import Operation, Span
from dmaproof.virtual.driver.chunks import CHUNK, Chunk, DeviceMemory, copy
from dmaproof.virtual.driver.errors import CuResult, DriverError
from dmaproof.virtual.driver.kernels import sync
from dmaproof.virtual.driver.kernels.counterpart import Launch, counterpart

_VECTOR, _WARP_NBYTES = 16, 32 * 16
_ONE_WAY_SHARE = 0.5
"""Of the time that a local copy takes: memory that is only read, or only written, moves half the bytes. Measured on
H200: 1966 GB/s copied, 4010 read, 4025 written (nvbandwidth's device_local cases)."""


def _aligned(*addresses: int, nbytes: int = _VECTOR) -> None:
    if any(address % nbytes for address in addresses):
        raise DriverError(CuResult.MISALIGNED_ADDRESS)


def _rounds(operation: Operation, rounds: int, share: float = 1.0) -> None:
    """Every transfer of the operation takes ``rounds`` times as long."""
    operation.legs[:] = [replace(leg, transfer_ns=leg.transfer_ns * rounds * share) for leg in operation.legs]


def _copy(launch: Launch, target: int, source: int, nbytes: int, rounds: int) -> None:
    if not nbytes or not rounds:
        return
    of = launch.operation.span(source, nbytes, "read")
    to = launch.operation.span(target, nbytes, "write")
    copy(to.memory, to.offset, of.memory, of.offset, nbytes)
    _rounds(launch.operation, rounds)


@counterpart("dmaproof_copy_rounds", "pointer", "pointer", "u64", "u32")
def copy_rounds(launch: Launch, target: int, source: int, nchunks: int, rounds: int) -> None:
    _aligned(target, source)
    _copy(launch, target, source, nchunks * _VECTOR, rounds)


@counterpart("dmaproof_tma_copy", "pointer", "pointer", "u64", "u32")
def tma_copy(launch: Launch, target: int, source: int, nbytes: int, rounds: int) -> None:
    """Addresses and length in units of 16 bytes (PTX ISA, cp.async.bulk)."""
    _aligned(target, source, nbytes)
    _copy(launch, target, source, nbytes, rounds)


@counterpart("dmaproof_exchange_rounds", "pointer", "pointer", "u64", "u32")
def exchange_rounds(launch: Launch, here: int, there: int, nchunks: int, rounds: int) -> None:
    """Half the bytes go each way, on links of their own: each way takes its half of the time."""
    _aligned(here, there)
    nbytes, operation = nchunks * _VECTOR, launch.operation
    if not nbytes or not rounds:
        return
    reads = [operation.span(one, nbytes, "read") for one in (here, there)]
    writes = [operation.span(one, nbytes, "write") for one in (here, there)]
    for at in range(0, nbytes, CHUNK):
        _exchange(reads, writes, at, min(CHUNK, nbytes - at))
    _rounds(operation, rounds, share=0.5)


def _exchange(reads: list[Span], writes: list[Span], at: int, length: int) -> None:
    """Of every two warps' chunks the first comes from there to here, the second goes from here to there."""
    if all(_nothing_in(span, at, length) for span in reads):
        return
    here, there = (np.ascontiguousarray(span.read(at, length)).copy() for span in reads)
    numbers = np.arange(length // _VECTOR) * _VECTOR // _WARP_NBYTES
    out = np.repeat(numbers % 2 == 1, _VECTOR)
    both = np.where(out, here, there)
    for span in writes:
        span.write(at, both)


def _nothing_in(span: Span, at: int, length: int) -> bool:
    """Whether both ends are known to hold zeros there: nothing is to be moved."""
    nothing = DeviceMemory(length)
    copy(nothing, 0, span.memory, span.offset + at, length)
    return nothing.chunks == DeviceMemory(length).chunks


@counterpart("dmaproof_read_rounds", "pointer", "u64", "u32", "pointer")
def read_rounds(launch: Launch, source: int, nchunks: int, rounds: int, result: int) -> None:
    _aligned(source)
    _aligned(result, nbytes=4)
    operation, total = launch.operation, 0
    if nchunks and rounds:
        total = _sum(operation.span(source, nchunks * _VECTOR, "read")) * rounds
        _rounds(operation, rounds, _ONE_WAY_SHARE)
    counter = operation.span(result, 4, "atomic")
    before = int(counter.read().view(np.uint32)[0])
    counter.write(0, np.array([(before + total) & 0xFFFFFFFF], np.uint32).view(np.uint8))


def _sum(span: Span) -> int:
    """Of all words; equal chunks that are one object are added up once."""
    known: dict[tuple[int, int, int], int] = {}
    total = 0
    for at in range(0, span.nbytes, CHUNK):
        length = min(CHUNK, span.nbytes - at)
        chunk = _chunk(span, at, length)
        if chunk is None:
            total += _words(span, at, length)
            continue
        key = (id(chunk), (span.offset + at) % CHUNK, length)
        if key not in known:
            known[key] = _words(span, at, length)
        total += known[key]
    return total


def _words(span: Span, at: int, length: int) -> int:
    return int(np.ascontiguousarray(span.read(at, length)).view(np.uint32).sum(dtype=np.uint64))


def _chunk(span: Span, at: int, length: int) -> Chunk | None:
    """The one chunk that holds the block, where one does."""
    memory, (number, start) = span.memory, divmod(span.offset + at, CHUNK)
    return memory.chunks[number] if isinstance(memory, DeviceMemory) and start + length <= CHUNK else None


@counterpart("dmaproof_write_rounds", "pointer", "u64", "u32", "u32")
def write_rounds(launch: Launch, target: int, nchunks: int, rounds: int, value: int) -> None:
    _aligned(target)
    if not nchunks or not rounds:
        return
    span = launch.operation.span(target, nchunks * _VECTOR, "write")
    unit = value.to_bytes(4, "little")
    if isinstance(span.memory, DeviceMemory):
        span.memory.fill(span.offset, span.nbytes, unit)
    else:
        span.write(0, np.frombuffer(unit * (span.nbytes // 4), np.uint8))
    _rounds(launch.operation, rounds, _ONE_WAY_SHARE)


@counterpart("dmaproof_chase_on", "pointer", "u64", "pointer", "u32")
def chase_on(launch: Launch, start: int, steps: int, end: int, _block: int) -> Generator[None, None, float]:
    """All multiprocessors are as far from any memory here."""
    return sync.chase(launch, start, steps, end)


@counterpart("dmaproof_tma_chase", "pointer", "u64", "pointer", "u32")
def tma_chase(launch: Launch, start: int, steps: int, end: int, _block: int) -> Generator[None, None, float]:
    _aligned(start)
    return sync.chase(launch, start, steps, end)
