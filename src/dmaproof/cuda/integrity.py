"""Workloads: does a peer write really arrive? Only the owner's own, local read proves it.

A writer that reads its own data back through its mapping proves nothing: with a wrong GPUDirect clique in a VFIO guest
it does just that while the owner sees zeros (nccl#2335). So the owner looks twice, by a kernel of its own and by a
copy to the host compared there by the CPU, and the writer's view is kept beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from dmaproof.cuda import kernels
from dmaproof.cuda.device import Device, can_access_peer, device, peers
from dmaproof.cuda.driver import cu
from dmaproof.cuda.memory import Buffer, on_device
from dmaproof.cuda.timing import run_to_end
from dmaproof.cuda.writes import Writer, queue_write
from dmaproof.errors import DmaproofError

_OLD_SEED, _NONE = 0x5A5A0001, (1 << 64) - 1
_MARK = 0x600D_C0DE_600D_C0DE
WHOLE_NBYTES, ENDS_NBYTES = 64 << 20, 16 << 20
"""A buffer of up to the one is compared whole by the CPU, of a larger one the first and last of the other: a GiB takes
it seconds, and the owner's kernel sees all of it anyway."""


@dataclass(frozen=True, slots=True)
class View:
    """What one reader found: words that differ from what was written, and the byte offset of the first."""

    wrong_words: int
    first_wrong_offset: int | None


@dataclass(frozen=True, slots=True)
class Written:
    """What a write has left of ``nwords``, as a kernel of the ``owner`` finds it. Where that is wrong: how many words
    are as they were before, and what a kernel of the ``writer`` finds through its mapping, if it has one."""

    owner: View
    nwords: int
    old_words: int = 0
    writer: View | None = None


@dataclass(frozen=True, slots=True)
class PeerWrite:
    """``owner`` by a kernel on the owning GPU, ``owner_copied`` by a copy to the host and the CPU, ``writer`` through
    its own mapping. ``old_words``: how many of the wrong words are still those from before the write. ``can_access`` is
    what cuDeviceCanAccessPeer says. Of a large buffer the CPU compares both ends (WHOLE_NBYTES, ENDS_NBYTES).
    """

    owner: View
    owner_copied: View
    writer: View
    old_words: int
    nwords: int
    can_access: bool

    @property
    def landed(self) -> bool:
        return self.owner.wrong_words == 0 and self.owner_copied.wrong_words == 0


def peer_write(writer: str, owner: str, nbytes: int, engine: Writer, seed: int = 7) -> PeerWrite:
    """GPU ``writer`` writes ``nbytes`` into memory of GPU ``owner``; everyone says what is there afterwards."""
    writing, owning = device(writer), device(owner)
    with peers(writing, owning), on_device(writing, nbytes) as source, on_device(owning, nbytes) as target:
        fill(owning, target, _OLD_SEED)
        _write(writing, owning, source, target, engine, seed)
        copied, old = _compared(owning, target, seed, _OLD_SEED)
        return PeerWrite(
            owner=verify(owning, target, seed),
            owner_copied=copied,
            writer=verify(writing, target, seed),
            old_words=old,
            nwords=target.nwords,
            can_access=can_access_peer(writing, owning),
        )


def fill(gpu: Device, buffer: Buffer, seed: int) -> None:
    """Fill ``buffer`` with the pattern of ``seed``, by a kernel on ``gpu``."""
    run_to_end(gpu, lambda s: kernels.launch_wide("dmaproof_fill", gpu, s, buffer.address, buffer.nwords, seed))


def _write(writing: Device, owning: Device, source: Buffer, target: Buffer, engine: Writer, seed: int) -> None:
    """A kernel makes the words where they are to be; a copy engine brings them."""
    if engine == "sm":
        fill(writing, target, seed)
        return
    fill(writing, source, seed)
    run_to_end(writing, queue_write("ce", writing, owning, target.address, source.address, target.nbytes))


def verify(reader: Device, buffer: Buffer, seed: int) -> View:
    """Counted by a kernel on ``reader``, in its own memory. Raises DmaproofError where the counters do not come back: a
    copy that is lost would read as nothing wrong."""
    sent = np.array([0, _NONE, _MARK], dtype=np.uint64)
    counters = np.zeros_like(sent)
    with on_device(reader, sent.nbytes) as result:
        cu.cuMemcpyHtoD(result.address, sent.ctypes.data, sent.nbytes)
        cu.cuCtxSynchronize()  # from pageable memory the call returns before the data is there
        args = (buffer.address, buffer.nwords, seed, result.address)
        run_to_end(reader, lambda stream: kernels.launch_wide("dmaproof_verify", reader, stream, *args))
        cu.cuMemcpyDtoH(counters.ctypes.data, result.address, counters.nbytes)
    if int(counters[2]) != _MARK:
        raise DmaproofError(
            f"what {reader.bdf} counted did not come back: {int(counters[2]):#x} in place of the mark {_MARK:#x} that "
            "was copied there and back; its copies from or to the host's memory are lost"
        )
    return View(int(counters[0]), int(counters[1]) * 4 if int(counters[1]) != _NONE else None)


def look(
    writing: Device, owning: Device, target: Buffer, seed: int, old_seed: int, *, is_mapped: bool = True
) -> Written:
    """What a write of the pattern of ``seed`` over that of ``old_seed`` has left, by kernels alone."""
    by_writer = partial(verify, writing, target, seed) if is_mapped else None
    return written(partial(verify, owning, target), by_writer, target.nwords, (seed, old_seed))


def written(
    by_owner: Callable[[int], View], by_writer: Callable[[], View] | None, nwords: int, seeds: tuple[int, int]
) -> Written:
    """``by_owner`` compares with the pattern of one of ``seeds``, the new and the old."""
    new, old = seeds
    found = by_owner(new)
    if not found.wrong_words:
        return Written(found, nwords)
    return Written(found, nwords, nwords - by_owner(old).wrong_words, by_writer() if by_writer else None)


def _compared(owning: Device, buffer: Buffer, seed: int, old_seed: int) -> tuple[View, int]:
    """What the CPU finds wrong in a copy of ``buffer``, and how much of that is of the pattern of ``old_seed``."""
    count, old, first = 0, 0, None
    for start, nwords in _parts(buffer.nwords):
        copied = _copy_out(owning, Buffer(buffer.address + 4 * start, 4 * nwords))
        wrong = np.flatnonzero(copied != kernels.pattern(nwords, seed, start))
        if len(wrong):
            first = (start + int(wrong[0])) * 4 if first is None else first
            count += len(wrong)
            old += int(np.count_nonzero((copied == kernels.pattern(nwords, old_seed, start))[wrong]))
    return View(count, first), old


def _parts(nwords: int) -> tuple[tuple[int, int], ...]:
    """(first word, words) that the CPU compares."""
    if nwords * 4 <= WHOLE_NBYTES:
        return ((0, nwords),)
    end = ENDS_NBYTES // 4
    return (0, end), (nwords - end, end)


def _copy_out(owning: Device, buffer: Buffer) -> np.ndarray[Any, np.dtype[np.uint32]]:
    words = np.zeros(buffer.nwords, dtype=np.uint32)
    owning.use()
    cu.cuMemcpyDtoH(words.ctypes.data, buffer.address, buffer.nbytes)
    return words


@dataclass(frozen=True, slots=True)
class Probe:
    """A GPU that answered: its name as the driver gives it."""

    name: str


def probe(gpu: str) -> Probe:
    """A small round trip through everything a test needs of ``gpu``: context, memory, kernel, copy.

    Raises CudaError, or AssertionError where the data that came back is wrong.
    """
    one = device(gpu)
    with on_device(one, 4096) as buffer:
        fill(one, buffer, 3)
        copied = _copy_out(one, buffer)
    if not np.array_equal(copied, kernels.pattern(1024, 3)):
        raise AssertionError(f"{gpu}: a kernel's words came back wrong")
    return Probe(cu.cuDeviceGetName(64, one.handle).split(b"\0")[0].decode())
