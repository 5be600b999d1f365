"""Workloads: memory that CPU and GPU use by one address (managed; malloc through HMM or ATS).

Every step is checked where it was not made: what the CPU wrote the GPU checks, what the GPU wrote the CPU checks.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dmaproof.cuda import kernels
from dmaproof.cuda.device import Device, device
from dmaproof.cuda.driver import cu
from dmaproof.cuda.integrity import View, fill, verify
from dmaproof.cuda.memory import Buffer, SharedKind, shared
from dmaproof.cuda.timing import Lane, elapsed_ms, run_to_end, stream_on
from dmaproof.errors import Unsupported
from dmaproof.measurement import Measurement
from dmaproof.progress import note

Place = Literal["gpu", "host", "unknown"]


@dataclass(frozen=True, slots=True)
class Touch:
    """What the second party found of what the first wrote, and what the first found after the second changed it."""

    second: View
    first: View


@dataclass(frozen=True, slots=True)
class Prefetched:
    """``location``: where the driver says the range was last sent (CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION)."""

    there: View
    back: View
    location: Place
    location_back: Place
    measurement: Measurement


@dataclass(frozen=True, slots=True)
class PingPong:
    rounds: int
    measurement: Measurement


def _cpu_view(buffer: Buffer, seed: int, added: int = 0) -> View:
    wrong = np.flatnonzero(buffer.cpu != kernels.pattern(buffer.nwords, seed) + np.uint32(added))
    return View(len(wrong), int(wrong[0]) * 4 if len(wrong) else None)


def _increment(gpu: Device, buffer: Buffer) -> None:
    args = (buffer.address, buffer.nwords)
    run_to_end(gpu, lambda stream: kernels.launch_wide("dmaproof_increment", gpu, stream, *args))


def first_touch(gpu: str, memory: SharedKind, nbytes: int, first: Literal["cpu", "gpu"], seed: int = 11) -> Touch:
    """``first`` writes fresh memory, the other side checks it. Then the GPU adds one to each word and the CPU looks."""
    one = device(gpu)
    with shared(one, memory, nbytes) as buffer:
        if first == "cpu":
            buffer.cpu[:] = kernels.pattern(buffer.nwords, seed)
            note("stage", text="CPU wrote, GPU reads")
            second = verify(one, buffer, seed)
        else:
            note("stage", text="GPU writes first")
            fill(one, buffer, seed)
            second = _cpu_view(buffer, seed)
        note("stage", text="GPU writes memory that the CPU has touched")
        _increment(one, buffer)
        return Touch(second, _cpu_view(buffer, seed, added=1))


_PREFETCHES = 3


def prefetch(gpu: str, memory: SharedKind, nbytes: int, seed: int = 13) -> Prefetched:
    """CPU writes, prefetch to the GPU, GPU checks and adds one; prefetch back, CPU checks; the driver says where to."""
    one = device(gpu)
    require_concurrent(one)
    with shared(one, memory, nbytes) as buffer:
        buffer.cpu[:] = kernels.pattern(buffer.nwords, seed)
        note("stage", text="prefetch to the GPU")
        times = [_timed_prefetch(one, buffer) for _ in range(_PREFETCHES)]
        location = _last_location(buffer, memory)
        there = verify(one, buffer, seed)
        _increment(one, buffer)
        note("stage", text="prefetch to the host")
        run_to_end(one, lambda stream: _send(one, buffer, "host", stream))
        method = f"cuMemPrefetchAsync of {nbytes} bytes from host to GPU, stream not held, device events"
        rates = tuple(nbytes / (ms * 1e6) for ms in times)
        return Prefetched(
            there=there,
            back=_cpu_view(buffer, seed, added=1),
            location=location,
            location_back=_last_location(buffer, memory),
            measurement=Measurement("prefetch_GBps", "GB/s", rates, method),
        )


def _timed_prefetch(gpu: Device, buffer: Buffer) -> float:
    """Milliseconds of one prefetch to the GPU, the pages on the host before."""
    run_to_end(gpu, lambda stream: _send(gpu, buffer, "host", stream))
    (elapsed,) = elapsed_ms([Lane(gpu, lambda stream: _send(gpu, buffer, "gpu", stream))], 1, hold=False)
    return elapsed


def require_concurrent(gpu: Device) -> None:
    """Raises Unsupported where CPU and GPU may not use managed memory at the same time."""
    if not gpu.attribute("CONCURRENT_MANAGED_ACCESS"):
        raise Unsupported(
            f"{gpu.bdf}: CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS is 0: no prefetch, no concurrent use"
        )


def _send(gpu: Device, buffer: Buffer, place: Place, stream: object) -> None:
    gpu.use()
    location = cu.CUmemLocation()
    kinds = cu.CUmemLocationType
    location.type = kinds.CU_MEM_LOCATION_TYPE_DEVICE if place == "gpu" else kinds.CU_MEM_LOCATION_TYPE_HOST
    location.id = int(gpu.handle) if place == "gpu" else 0
    cu.cuMemPrefetchAsync(buffer.address, buffer.nbytes, location, 0, stream)


def _last_location(buffer: Buffer, memory: SharedKind) -> Place:
    """The attribute is defined for managed memory alone (cuMemRangeGetAttribute)."""
    if memory != "managed":
        return "unknown"
    attribute = cu.CUmem_range_attribute.CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION
    ordinal = int(cu.cuMemRangeGetAttribute(4, attribute, buffer.address, buffer.nbytes))
    if ordinal == -1:  # CU_DEVICE_CPU
        return "host"
    return "gpu" if ordinal >= 0 else "unknown"


def ping_pong(gpu: str, memory: SharedKind, rounds: int) -> PingPong:
    """CPU and a running kernel answer each other ``rounds`` times through one word of shared memory."""
    one = device(gpu)
    require_concurrent(one)
    kernels.load_all(one)
    with shared(one, memory, 4096) as buffer, stream_on(one) as stream:
        buffer.cpu[0] = 0
        kernels.launch_single("dmaproof_pingpong", one, stream, buffer.address, rounds)
        times = []
        for turn in range(rounds):
            begin = time.perf_counter_ns()
            buffer.cpu[0] = 2 * turn + 1
            _await_word(buffer, 2 * turn + 2)
            times.append(float(time.perf_counter_ns() - begin))
        one.use()
        cu.cuStreamSynchronize(stream)
    method = f"{rounds} round trips through one word of {memory} memory, CPU clock"
    return PingPong(rounds, Measurement("round_trip_ns", "ns", tuple(times), method))


def _await_word(buffer: Buffer, wanted: int) -> None:
    """No limit of its own: a GPU that does not answer is a hang, and whoever waits for this process looks into those.
    Yielding costs less than a microsecond; sleep(0) would cost seventy."""
    while buffer.cpu[0] != wanted:
        os.sched_yield()
