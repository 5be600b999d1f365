"""Workloads: pages sent ahead of their use, to GPUs, the host, and NUMA nodes of the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dmaproof.cuda.device import Device, device
from dmaproof.cuda.driver import cu
from dmaproof.cuda.integrity import View, fill, verify
from dmaproof.cuda.memory import Buffer, SharedKind, shared
from dmaproof.cuda.memory.buffer import view
from dmaproof.cuda.timing import Lane, elapsed_ms, run_to_end
from dmaproof.cuda.unified.system import PAGE_NBYTES
from dmaproof.cuda.unified.where import Pages, last_prefetch, pages
from dmaproof.cuda.unified.words import cpu_fill, cpu_view, increment, require_concurrent
from dmaproof.measurement import Measurement
from dmaproof.progress import note

HOST = "host"
_NUMA = "numa"


@dataclass(frozen=True, slots=True)
class Prefetched:
    """``location``: where the driver says the range was last sent (as in ``Told``), None where it says nothing of such
    memory."""

    there: View
    back: View
    location: str | None
    location_back: str | None
    measurement: Measurement


_PREFETCHES = 3


def prefetch(gpu: str, memory: SharedKind, nbytes: int, seed: int = 13) -> Prefetched:
    """CPU writes, prefetch to the GPU, GPU checks and adds one; prefetch back, CPU checks; the driver says where to."""
    one = device(gpu)
    require_concurrent(one)
    with shared(one, memory, nbytes) as buffer:
        cpu_fill(buffer, seed)
        note("stage", text="prefetch to the GPU")
        times = [_timed_prefetch(one, buffer) for _ in range(_PREFETCHES)]
        location = _last_location(buffer, memory)
        there = verify(one, buffer, seed)
        increment(one, buffer)
        note("stage", text="prefetch to the host")
        run_to_end(one, lambda stream: send(one, buffer, HOST, stream))
        method = f"cuMemPrefetchAsync of {nbytes} bytes from host to GPU, stream not held, device events"
        rates = tuple(nbytes / (ms * 1e6) for ms in times)
        return Prefetched(
            there=there,
            back=cpu_view(buffer, seed, added=1),
            location=location,
            location_back=_last_location(buffer, memory),
            measurement=Measurement("prefetch_GBps", "GB/s", rates, method),
        )


def _timed_prefetch(gpu: Device, buffer: Buffer) -> float:
    """Milliseconds of one prefetch to the GPU, the pages on the host before."""
    run_to_end(gpu, lambda stream: send(gpu, buffer, HOST, stream))
    (elapsed,) = elapsed_ms([Lane(gpu, lambda stream: send(gpu, buffer, gpu.bdf, stream))], 1, hold=False)
    return elapsed


def send(gpu: Device, buffer: Buffer, place: str, stream: object) -> None:
    """Queue a prefetch of ``buffer`` on ``stream`` of ``gpu``, to ``place`` (see ``location``)."""
    gpu.use()
    cu.cuMemPrefetchAsync(buffer.address, buffer.nbytes, location(place), 0, stream)


def location(place: str) -> Any:
    """The CUmemLocation of a GPU's address, ``host``, or ``numa<N>``."""
    made, kinds = cu.CUmemLocation(), cu.CUmemLocationType
    if place == HOST:
        made.type = kinds.CU_MEM_LOCATION_TYPE_HOST
    elif place.startswith(_NUMA):
        made.type, made.id = kinds.CU_MEM_LOCATION_TYPE_HOST_NUMA, int(place.removeprefix(_NUMA))
    else:
        made.type, made.id = kinds.CU_MEM_LOCATION_TYPE_DEVICE, int(device(place).handle)
    return made


def _last_location(buffer: Buffer, memory: SharedKind) -> str | None:
    """The attribute is defined for managed memory alone (cuMemRangeGetAttribute)."""
    return last_prefetch(buffer) if memory == "managed" else None


@dataclass(frozen=True, slots=True)
class Stop:
    """One stop of a tour. ``found``: what whoever is at ``place`` found of the range. ``told``: where the driver says
    that it was sent, spelt as ``place`` is; "" where the driver says nothing of such memory. ``where``: its pages."""

    place: str
    found: View
    told: str
    where: Pages


@dataclass(frozen=True, slots=True)
class Tour:
    """``beside``: words of the two pages next to the range that are not as they were written."""

    stops: tuple[Stop, ...]
    beside: int


def tour(gpu: str, memory: SharedKind, nbytes: int, places: list[str]) -> Tour:
    """Send ``nbytes`` in the middle of an allocation from place to place. At each stop its processor checks every word
    and writes all anew. ``places`` are GPUs' addresses, ``host``, or ``numa``: the node of the host that is nearest to
    ``gpu``, left out where the system has none. Prefetches are queued on a stream of ``gpu``.
    """
    one, seed = device(gpu), 17
    require_concurrent(one)
    with shared(one, memory, nbytes + 2 * PAGE_NBYTES) as whole:
        whole.cpu[:] = seed
        part = view(whole.address + PAGE_NBYTES, nbytes)
        cpu_fill(part, seed)
        stops = tuple(_stop(one, part, memory, at, seed + done) for done, at in enumerate(_resolved(one, places)))
        edges = np.concatenate([whole.cpu[: PAGE_NBYTES // 4], whole.cpu[-PAGE_NBYTES // 4 :]])
        return Tour(stops, int(np.count_nonzero(edges != seed)))


def _resolved(gpu: Device, places: list[str]) -> list[str]:
    near = gpu.attribute("HOST_NUMA_ID")  # -1: the system does not support NUMA
    return [f"{_NUMA}{near}" if place == _NUMA else place for place in places if place != _NUMA or near >= 0]


def _stop(gpu: Device, part: Buffer, memory: SharedKind, place: str, seed: int) -> Stop:
    note("stage", text=f"prefetch of {part.nbytes} bytes to {place}")
    run_to_end(gpu, lambda stream: send(gpu, part, place, stream))
    there = None if _is_host(place) else device(place)
    told = last_prefetch(part) if memory == "managed" else ""
    where = pages(there or gpu, part.address, part.nbytes)
    if there is None:
        found = cpu_view(part, seed)
        cpu_fill(part, seed + 1)
    else:
        found = verify(there, part, seed)
        fill(there, part, seed + 1)
    return Stop(place, found, told, where)


def _is_host(place: str) -> bool:
    return place == HOST or place.startswith(_NUMA)
