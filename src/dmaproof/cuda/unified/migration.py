"""Workload: how fast pages move when a GPU faults on them, when they are sent ahead, and when both sides want them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dmaproof.cuda import kernels
from dmaproof.cuda.device import Device, device
from dmaproof.cuda.integrity import View
from dmaproof.cuda.memory import Buffer, SharedKind, shared
from dmaproof.cuda.timing import Lane, elapsed_ms, run_to_end
from dmaproof.cuda.unified.prefetch import HOST, send
from dmaproof.cuda.unified.system import PAGE_NBYTES
from dmaproof.cuda.unified.words import cpu_fill, cpu_view, increment, require_concurrent
from dmaproof.measurement import Measurement
from dmaproof.progress import note

Way = Literal["faulted", "prefetched", "ping-pong"]
_SEED = 81


@dataclass(frozen=True, slots=True)
class Migrated:
    """``npages``: how many pages of the system's size came to the GPU, all in all. ``found``: what the CPU had in
    the end."""

    measurement: Measurement
    npages: int
    found: View


def migrate(gpu: str, memory: SharedKind, way: Way, nbytes: int, samples: int = 3) -> Migrated:
    """Bring ``nbytes`` from the CPU, which has just written them, to the GPU ``samples`` times.

    ``faulted``: a kernel adds one to each word where they are, timed by device events. ``prefetched``: they are sent,
    timed so. ``ping-pong``: GPU and CPU in turn add one to each word, timed by the CPU: the bytes go both ways.
    """
    one = device(gpu)
    require_concurrent(one)
    kernels.load_all(one)
    with shared(one, memory, nbytes) as buffer:
        cpu_fill(buffer, _SEED)
        note("stage", text=f"{samples} x {nbytes} bytes of {memory} memory, {way}")
        times = [_WAYS[way](one, buffer) for _ in range(samples)]
        increment(one, buffer)  # in each way the GPU has the last word
        moved = 2 * nbytes if way == "ping-pong" else nbytes
        rates = tuple(moved / (ms * 1e6) for ms in times)
        found = cpu_view(buffer, _SEED, added=_ADDED[way](samples))
        method = f"{memory} memory from host to GPU, {_METHODS[way]}, {nbytes} bytes a sample"
        sweeps = samples + 1 if way == "ping-pong" else samples  # the last look brings them to the GPU once more
        return Migrated(Measurement(_NAMES[way], "GB/s", rates, method), sweeps * nbytes // PAGE_NBYTES, found)


def _faulted(gpu: Device, buffer: Buffer) -> float:
    buffer.cpu[:] += np.uint32(1)
    args = (buffer.address, buffer.nwords)
    lane = Lane(gpu, lambda stream: kernels.launch_wide("dmaproof_increment", gpu, stream, *args))
    return elapsed_ms([lane], 1, hold=False)[0]


def _prefetched(gpu: Device, buffer: Buffer) -> float:
    run_to_end(gpu, lambda stream: send(gpu, buffer, HOST, stream))
    buffer.cpu[:] += np.uint32(1)
    return elapsed_ms([Lane(gpu, lambda stream: send(gpu, buffer, gpu.bdf, stream))], 1, hold=False)[0]


def _ping_pong(gpu: Device, buffer: Buffer) -> float:
    begin = time.perf_counter_ns()
    increment(gpu, buffer)
    buffer.cpu[:] += np.uint32(1)
    return (time.perf_counter_ns() - begin) / 1e6


_WAYS: dict[Way, Callable[[Device, Buffer], float]] = {
    "faulted": _faulted,
    "prefetched": _prefetched,
    "ping-pong": _ping_pong,
}
_ADDED: dict[Way, Callable[[int], int]] = {
    "faulted": lambda samples: 2 * samples + 1,
    "prefetched": lambda samples: samples + 1,
    "ping-pong": lambda samples: 2 * samples + 1,
}
"""To each word, after so many samples and the GPU's last turn."""
_NAMES: dict[Way, str] = {
    "faulted": "fault_migration_GBps",
    "prefetched": "prefetch_GBps",
    "ping-pong": "ping_pong_GBps",
}
_METHODS: dict[Way, str] = {
    "faulted": "a kernel adds one to each word where the CPU has just written it, device events",
    "prefetched": "cuMemPrefetchAsync, stream not held, device events",
    "ping-pong": "GPU and CPU add one to each word in turn, both ways counted, CPU clock",
}
