"""Workload: CPU and a running kernel answer each other through one word."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from dmaproof.cuda import kernels
from dmaproof.cuda.device import device
from dmaproof.cuda.driver import cu
from dmaproof.cuda.memory import Buffer, SharedKind, shared
from dmaproof.cuda.timing import stream_on
from dmaproof.cuda.unified.words import require_concurrent
from dmaproof.measurement import Measurement


@dataclass(frozen=True, slots=True)
class PingPong:
    rounds: int
    measurement: Measurement


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
