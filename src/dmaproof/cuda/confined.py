"""Copies by a thread that may run on one CPU only, as in a restricted cpuset: containers get such."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dmaproof.cuda.copies import HOST, Transfer, copy_bandwidth
from dmaproof.cuda.memory.plain import local_cpus
from dmaproof.measurement import Measurement


@dataclass(frozen=True, slots=True)
class Confined:
    """``cpu`` is the one that was left, ``local`` are those near the GPU (none: the bus does not tell), ``after`` is
    where the thread might run once the copies were done: on ``cpu`` alone, unless a library widened it."""

    cpu: int
    local: tuple[int, ...]
    after: tuple[int, ...]
    measurement: Measurement

    @property
    def is_far(self) -> bool:
        return bool(self.local) and self.cpu not in self.local


def confined_copy(gpu: str, nbytes: int) -> Confined:
    """From host memory to ``gpu``, on the CPU that is the worst for it: one that is not near, where there is any."""
    local = local_cpus(gpu)
    with _only(farthest(os.sched_getaffinity(0), local)) as cpu:
        (measured,) = copy_bandwidth([Transfer(HOST, gpu, "ce", nbytes)]).measurements
        after = os.sched_getaffinity(0)
    return Confined(cpu, tuple(sorted(local)), tuple(sorted(after)), measured)


def farthest(allowed: Collection[int], local: Collection[int]) -> int:
    """The last CPU of ``allowed`` that is not ``local``, else the last."""
    return max({*allowed} - {*local} or allowed)


@contextmanager
def _only(cpu: int) -> Iterator[int]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield cpu
    finally:
        os.sched_setaffinity(0, before)
