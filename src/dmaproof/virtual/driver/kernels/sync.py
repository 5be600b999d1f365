"""Counterparts of dmaproof/cuda/kernels/sync.cu: one thread that follows pointers, or waits for the CPU."""

from __future__ import annotations

import time
from collections.abc import Generator

import numpy as np

from dmaproof.virtual.driver.access import Access, Operation, Span
from dmaproof.virtual.driver.errors import CuResult, DriverError
from dmaproof.virtual.driver.kernels.counterpart import Launch, counterpart
from dmaproof.virtual.driver.pages import ManagedPages

_POINTER = 8


@counterpart("dmaproof_chase", "pointer", "u64", "pointer")
def chase(launch: Launch, start: int, steps: int, end: int) -> Generator[None, None, float]:
    """Each load waits for the one before it: the latency of the memory walked through, ``steps`` times."""
    operation, walked_ns, at, left = launch.operation, 0.0, start, steps
    while left:
        done, at = _walk(operation, at, left)
        walked_ns += done * _latency_ns(operation)
        left -= done
    stored = operation.span(end, _POINTER, "write")
    stored.write(0, np.frombuffer(at.to_bytes(_POINTER, "little"), np.uint8))
    return launch.ready_ns + operation.extra_ns + max(walked_ns, _latency_ns(operation))
    yield  # a generator by form: its end is its own, not that of a transfer


def _walk(operation: Operation, at: int, steps: int) -> tuple[int, int]:
    """Follow up to ``steps`` pointers from ``at`` within one allocation: how many, and where that led."""
    if at % _POINTER:
        raise DriverError(CuResult.MISALIGNED_ADDRESS)
    found = operation.driver.space.find(at)
    base, nbytes = (found.va, found.nbytes // _POINTER * _POINTER) if found else (at, _POINTER)
    reached = operation.span(base, nbytes, "read") if found else operation.span(at, _POINTER, "read")
    words = np.ascontiguousarray(reached.read()).view(np.uint64)
    done = 0
    while done < steps and 0 <= at - base < nbytes and (at - base) % _POINTER == 0:
        run, at = _stride(words, base, at, steps - done)
        done += run
    if not done:
        raise DriverError(CuResult.ILLEGAL_ADDRESS)
    return done, at


def _stride(words: np.ndarray[tuple[int], np.dtype[np.uint64]], base: int, at: int, most: int) -> tuple[int, int]:
    """Follow pointers from ``at`` on as long as each leads as far on as the first one; how many, and where that led."""
    index = (at - base) // _POINTER
    step = int(words[index]) - at
    if step <= 0 or step % _POINTER:
        return 1, at + step
    seen = words[index :: step // _POINTER][:most]
    expected = np.uint64(at) + np.arange(1, len(seen) + 1, dtype=np.uint64) * np.uint64(step)
    other = np.flatnonzero(seen != expected)
    run = int(other[0]) if len(other) else len(seen)
    return run, at + run * step


def _latency_ns(operation: Operation) -> float:
    """The latency of the path last used: its whole duration within the GPU, where no link adds one."""
    leg = operation.legs[-1]
    if leg.latency_ns:
        return leg.latency_ns
    return operation.driver.fabric.latency_ns(operation.device, operation.device)


class _Flag:
    """Words that the CPU and a kernel both use while the kernel runs."""

    def __init__(self, operation: Operation, va: int) -> None:
        self._operation, self._va = operation, va
        found = operation.driver.space.find(va)
        self._pages = found.memory if found and isinstance(found.memory, ManagedPages) else None
        self._spans: dict[Access, Span] = {}

    def load(self, index: int) -> int:
        return int(np.ascontiguousarray(self._span("read").read(index * 4, 4)).view(np.uint32)[0])

    def store(self, index: int, value: int) -> None:
        self._span("write").write(index * 4, np.frombuffer(value.to_bytes(4, "little"), np.uint8))

    def _span(self, access: Access) -> Span:
        """Managed pages move under the kernel, so each access may fault; other paths are settled once."""
        if self._pages is not None or access not in self._spans:
            self._spans[access] = self._operation.span(self._va, 8, access)
        return self._spans[access]


@counterpart("dmaproof_hold", "pointer", "u64")
def hold(launch: Launch, flag: int, timeout_ns: int) -> Generator[None, None, float]:
    """Waits in real time and ends at the modelled instant of the release, one for all that were held together."""
    driver, held, word = launch.operation.driver, launch.operation.driver.held, _Flag(launch.operation, flag)
    begin, me = time.monotonic_ns(), object()
    held[me] = launch.ready_ns
    try:
        while word.load(0) == 0:
            if time.monotonic_ns() - begin > timeout_ns:
                word.store(1, 1)
                break
            yield
        if me not in driver.releases:
            together = max(*held.values(), driver.clock.host_ns)
            driver.releases.update(dict.fromkeys(held, together))
        return max(launch.ready_ns, driver.releases[me])
    finally:
        held.pop(me)
        driver.releases.pop(me, None)


@counterpart("dmaproof_pingpong", "pointer", "u32")
def pingpong(launch: Launch, flag: int, rounds: int) -> Generator[None, None, float]:
    operation = launch.operation
    word = _Flag(operation, flag)
    for turn in range(rounds):
        while word.load(0) != (2 * turn + 1) & 0xFFFFFFFF:
            yield
        word.store(0, (2 * turn + 2) & 0xFFFFFFFF)
    one_way_ns = _latency_ns(operation) if rounds else 0.0
    return launch.ready_ns + operation.extra_ns + 2 * rounds * one_way_ns
