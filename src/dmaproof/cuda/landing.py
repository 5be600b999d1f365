"""Workload: peer writes of any length, to any address, in every way that a program has, as the owner sees them.

Links move whole units with byte enables at their ends, copy engines split what is not aligned, and kernels' stores are
gathered on their way: what goes wrong there goes wrong at the first and last bytes, and just beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from dmaproof.cuda import kernels
from dmaproof.cuda.copies import Engine
from dmaproof.cuda.device import Device, can_access_peer, device, peers
from dmaproof.cuda.driver import cu
from dmaproof.cuda.graphs import executable, launch_graph
from dmaproof.cuda.integrity import Written, fill
from dmaproof.cuda.memory import on_device
from dmaproof.cuda.memory.owned import DeviceKind, owned
from dmaproof.cuda.memory_copies import fill_by_owner, look_by_owner
from dmaproof.cuda.timing import run_to_end
from dmaproof.cuda.traffic import Traffic, traffic
from dmaproof.cuda.writes import queue_write

Way = Literal["ce", "sm", "tma", "graph-ce", "graph-sm"]
ENGINES: Mapping[Way, Engine] = {"ce": "ce", "sm": "sm", "tma": "tma", "graph-ce": "ce", "graph-sm": "sm"}
Bytes = npt.NDArray[np.uint8]
_OLD_SEED = 31
_GUARD = 256
"""Bytes on both sides of what is written, that must stay as they are."""


@dataclass(frozen=True, slots=True)
class Extent:
    """``nbytes``, ``offset`` bytes behind an address that is aligned to 256 (cuMemAlloc aligns to no less)."""

    nbytes: int
    offset: int


@dataclass(frozen=True, slots=True)
class Landing:
    """What the owner found of one write, in bytes: by a copy to the host (``wrong``) and by a kernel of its own
    (``wrong_by_kernel``). ``old``: of the wrong ones those from before the write; ``beside``: changed ones that were
    not to be written; ``writer_wrong``: what the writer sees through its mapping, where the owner's is wrong."""

    extent: Extent
    wrong: int
    wrong_by_kernel: int
    first_wrong: int | None
    old: int
    beside: int
    writer_wrong: int | None

    @property
    def landed(self) -> bool:
        return not (self.wrong or self.wrong_by_kernel or self.beside)


@dataclass(frozen=True, slots=True)
class Landings:
    """``beside``: the copies that went on meanwhile, from the writer to the owner and back; none where it was not busy.
    ``can_access`` as cuDeviceCanAccessPeer has it."""

    landings: tuple[Landing, ...]
    beside: tuple[Written, ...]
    can_access: bool


def peer_writes(writer: str, owner: str, way: Way, extents: list[tuple[int, int]], busy: bool) -> Landings:
    """GPU ``writer`` writes each of ``extents`` (bytes, offset) into memory of GPU ``owner``. ``busy``: while copies
    of other streams go on between the two, both ways."""
    writing, owning = device(writer), device(owner)
    for one in (writing, owning):
        kernels.load_all(one)
    found = []
    with peers(writing, owning), traffic(writing, owning) if busy else nullcontext() as other:
        for nbytes, offset in extents:
            found.append(_written(writing, owning, way, Extent(nbytes, offset), other))
        beside = other.end() if other is not None else ()
    return Landings(tuple(found), beside, can_access_peer(writing, owning))


@dataclass(frozen=True, slots=True)
class KindLanding:
    """The kernel that looks for the owner is one of the process that owns the memory."""

    way: Way
    wrote: Written


@dataclass(frozen=True, slots=True)
class KindLandings:
    landings: tuple[KindLanding, ...]
    can_access: bool


def kind_writes(writer: str, owner: str, memory: DeviceKind, nbytes: int, ways: list[Way]) -> KindLandings:
    """GPU ``writer`` writes ``nbytes`` into ``memory`` of GPU ``owner`` in each of ``ways``; whoever owns it looks.

    Raises Unsupported where the GPU has no such memory.
    """
    writing, owning = device(writer), device(owner)
    kernels.load_all(writing)
    with owned(memory, owning, [writing], nbytes) as held, on_device(writing, nbytes) as source:
        fill_by_owner(owning, held, _OLD_SEED)
        found = []
        for seed, way in enumerate(ways, _OLD_SEED + 1):  # each finds what the one before has written
            fill(writing, source, seed)
            _write(writing, None, way, held.buffer.address, source.address, nbytes)
            wrote = look_by_owner(writing, owning, held, (seed, seed - 1))
            found.append(KindLanding(way, wrote))
    return KindLandings(tuple(found), can_access_peer(writing, owning))


def _written(writing: Device, owning: Device, way: Way, extent: Extent, other: Traffic | None) -> Landing:
    start, of = _GUARD + extent.offset, extent.offset * 5 % 16  # the source is aligned otherwise than the target
    new = np.random.default_rng([extent.nbytes, extent.offset]).integers(0, 256, extent.nbytes, np.uint8)
    before = np.full(start + extent.nbytes + _GUARD, 0xA5, np.uint8)
    before[start : start + extent.nbytes] = ~new  # so that each byte that stays old is seen to be
    with on_device(writing, of + extent.nbytes) as source, on_device(owning, len(before)) as target:
        _put(owning, target.address, before)
        _put(writing, source.address + of, new)
        if other is not None:
            other.go_on()
        _write(writing, owning, way, target.address + start, source.address + of, extent.nbytes)
        after = copied(owning, target.address, len(before))
        by_kernel = seen(owning, target.address + start, extent.nbytes)
        landing = _judged(extent, before, after, new, by_kernel)
        if landing.landed:
            return landing
        by_writer = seen(writing, target.address + start, extent.nbytes)
        return replace(landing, writer_wrong=int(np.count_nonzero(by_writer != new)))


def _judged(extent: Extent, before: Bytes, after: Bytes, new: Bytes, by_kernel: Bytes) -> Landing:
    """``before`` and ``after`` with what is beside the extent, the others without."""
    inside = slice(_GUARD + extent.offset, _GUARD + extent.offset + extent.nbytes)
    wrong = np.flatnonzero(after[inside] != new)
    changed = after != before
    changed[inside] = False
    return Landing(
        extent=extent,
        wrong=len(wrong),
        wrong_by_kernel=int(np.count_nonzero(by_kernel != new)),
        first_wrong=int(wrong[0]) if len(wrong) else None,
        old=int(np.count_nonzero(after[inside] == before[inside])),
        beside=int(np.count_nonzero(changed)),
        writer_wrong=None,
    )


def _write(writing: Device, owning: Device | None, way: Way, target: int, source: int, nbytes: int) -> None:
    queue = queue_write(ENGINES[way], writing, owning, target, source, nbytes)
    if not way.startswith("graph"):
        run_to_end(writing, queue)
        return
    with executable(writing, queue) as made:
        run_to_end(writing, lambda stream: launch_graph(writing, made, stream))


def _put(gpu: Device, address: int, content: Bytes) -> None:
    gpu.use()
    cu.cuMemcpyHtoD(address, content.ctypes.data, len(content))
    cu.cuCtxSynchronize()  # from pageable memory the call returns before the data is there


def copied(gpu: Device, address: int, nbytes: int) -> Bytes:
    """As a copy to the host finds it."""
    content = np.empty(nbytes, np.uint8)
    gpu.use()
    cu.cuMemcpyDtoH(content.ctypes.data, address, nbytes)
    return content


def seen(reader: Device, address: int, nbytes: int) -> Bytes:
    """As a kernel of ``reader`` reads it, through whatever mapping that GPU has."""
    with on_device(reader, nbytes) as copy:
        args = (copy.address, address, nbytes)
        run_to_end(reader, lambda stream: kernels.launch_wide("dmaproof_copy_bytes", reader, stream, *args))
        return copied(reader, copy.address, nbytes)
