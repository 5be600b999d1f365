"""Counterparts of dmaproof/cuda/kernels/unified.cu and contain.cu: memory in use while the CPU uses it or takes it
away, and a kernel that gives itself up."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager

import numpy as np

from dmaproof.virtual.driver.access import Operation, Span
from dmaproof.virtual.driver.errors import CuResult, DriverError
from dmaproof.virtual.driver.kernels.counterpart import Launch, counterpart
from dmaproof.virtual.driver.pages import ManagedPages

_WORD = 4


@contextmanager
def _running(operation: Operation) -> Iterator[None]:
    """The machine knows of the kernel: should its process die, a channel is left that has work on it."""
    link, gpu = operation.driver.link, operation.device.bdf
    link.kernel(gpu, "begins")
    try:
        yield
    finally:
        link.kernel(gpu, "ends")


@counterpart("dmaproof_read_until", "pointer", "u64", "pointer", "pointer")
def read_until(launch: Launch, words: int, nwords: int, stop: int, told: int) -> Generator[None, None, float]:
    """Pages of managed memory move meanwhile, so each pass asks for them; other memory is reached as at first."""
    operation, passes = launch.operation, 0
    found = operation.driver.space.find(words)
    moving = found is not None and isinstance(found.memory, ManagedPages)
    with _running(operation):
        signal, answer = operation.span(stop, _WORD, "read"), operation.span(told, 2 * _WORD, "write")
        seen = operation.span(words, nwords * _WORD, "read")
        while True:
            stopped = signal.read().any()
            total = int(np.ascontiguousarray(seen.read()).view(np.uint32).sum(dtype=np.uint32))
            passes += 1
            _tell(answer, passes, total)
            if stopped:
                break
            yield
            if moving:
                seen = operation.span(words, nwords * _WORD, "read")
    return launch.ready_ns + operation.extra_ns + passes * operation.driver.fabric.latency_ns(operation.device, None)


def _tell(answer: Span, passes: int, total: int) -> None:
    """The sum first: whoever sees the pass counted finds its sum, or that of a later one."""
    for offset, value in ((_WORD, total), (0, passes)):
        answer.write(offset, np.frombuffer((value & 0xFFFFFFFF).to_bytes(_WORD, "little"), np.uint8))


@counterpart("dmaproof_count_until", "pointer", "pointer", "pointer")
def count_until(launch: Launch, words: int, stop: int, counts: int) -> Generator[None, None, float]:
    """All threads go round by round, and each asks for the page anew: the CPU may have taken it."""
    operation, nbytes, done = launch.operation, launch.nthreads * _WORD, 0
    signal = operation.span(stop, _WORD, "read")
    with _running(operation):
        while True:
            stopped = signal.read().any()
            done += 1
            _store(operation, words, nbytes, done)
            if stopped:
                break
            yield
    _store(operation, counts, nbytes, done)
    return launch.ready_ns + operation.extra_ns + done * operation.driver.fabric.latency_ns(operation.device, None)


def _store(operation: Operation, va: int, nbytes: int, value: int) -> None:
    operation.span(va, nbytes, "write").write(0, np.full(nbytes // _WORD, value, np.uint32).view(np.uint8))


@counterpart("dmaproof_trap", "u32")
def trap(launch: Launch, which: int) -> None:
    if which < launch.nthreads:
        launch.operation.driver.link.kernel(launch.operation.device.bdf, "traps")
        raise DriverError(CuResult.LAUNCH_FAILED)
