"""Counterpart of dmaproof/cuda/kernels/atomics.cu."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Generator

import numpy as np

from dmaproof.virtual.driver.access import Span
from dmaproof.virtual.driver.host import MappedMemory, SystemMemory
from dmaproof.virtual.driver.kernels.counterpart import Launch, counterpart

_WORD = 4


@counterpart("dmaproof_add_until", "pointer", "pointer", "pointer")
def add_until(launch: Launch, words: int, stop: int, counts: int) -> Generator[None, None, float]:
    """All threads go round by round; pages may be taken away between rounds, so each round asks for them."""
    operation, nbytes, rounds = launch.operation, launch.nthreads * _WORD, 0
    told = operation.span(stop, _WORD, "read")
    while True:
        _add(operation.span(words, nbytes, "atomic"))
        rounds += 1
        if told.read().any():
            break
        yield
    operation.span(counts, nbytes, "write").write(0, np.full(launch.nthreads, rounds, np.uint32).view(np.uint8))
    return launch.ready_ns + operation.extra_ns + rounds * operation.driver.fabric.latency_ns(operation.device, None)


def _add(span: Span) -> None:
    """One to each word; where the CPU may add at the same time, by the CPU's own atomic instruction."""
    if isinstance(span.memory, MappedMemory | SystemMemory):
        _stub_add()(span.memory.address + span.offset, span.nbytes // _WORD, 1)
    else:
        span.write(0, (span.read().copy().view(np.uint32) + np.uint32(1)).view(np.uint8))


@functools.cache
def _stub_add() -> ctypes._NamedFuncPointer:
    add = ctypes.CDLL("libcuda.so.1").dmaproof_add
    add.argtypes, add.restype = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32], None
    return add
