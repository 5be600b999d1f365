"""A transfer with its memory: how it is queued, how that memory is marked before, and what of it arrived.

Between GPUs the owner looks at every byte, by a kernel of its own: a writer that reads its data back through its own
mapping would prove nothing. Host memory is marked and compared by the CPU, at its head and its tail: a pattern over
all of it would take longer to make than all copies together.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from dmaproof.cuda import kernels
from dmaproof.cuda.copies import HOST, Transfer, memory_of
from dmaproof.cuda.device import Device, device
from dmaproof.cuda.driver import cu
from dmaproof.cuda.integrity import fill, verify
from dmaproof.cuda.memory import Buffer
from dmaproof.cuda.timing import Burst, run_to_end

Words = np.ndarray[Any, np.dtype[np.uint32]]
_SUM_NBYTES = 256
_MARK_NBYTES = 64 << 10
_STRIPE_WORDS = 128
"""512 bytes: what dmaproof_exchange_rounds moves one way before it moves as much the other way."""
_OTHER = 0x9E3779B9
"""Added to the seed for what the target holds before."""
_VALUE = 0x01010107
"""What is read and written where only the sum of all words is looked at."""
_TMA_BLOCKS = 4
"""Blocks a multiprocessor: with 40 KiB of slots each they fit, and keep more bytes under way than a link's latency
needs."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """What one transfer got wrong: of ``nwords`` that were looked at ``wrong_words`` are not those sent, the first of
    them ``first_offset`` bytes from the start, and ``old_words`` of them are what was there before.
    ``writer_wrong_words`` is what the GPU that wrote into another's memory finds wrong through its own mapping."""

    transfer: Transfer
    nwords: int
    wrong_words: int
    first_offset: int | None
    old_words: int = 0
    writer_wrong_words: int | None = None

    def __str__(self) -> str:
        one = self.transfer
        told = (
            f"{one.work} {one.source} to {one.target} by {one.engine}: {self.wrong_words} of {self.nwords} words wrong"
        )
        return told if self.first_offset is None else f"{told}, the first at byte {self.first_offset}"


@dataclass(frozen=True, slots=True)
class Placed:
    """``transfer`` with its buffers, on the GPU that does the work. A ``read`` has the sum of its words as target, a
    ``write`` room for one as source."""

    transfer: Transfer
    worker: Device
    source: Buffer
    target: Buffer

    def burst(self) -> Burst:
        return Burst(self.worker, self.queue)

    def queue(self, stream: Any, times: int) -> None:
        """Queue the work ``times`` over: one kernel that repeats it, or as many copies."""
        one, ends = self.transfer, (self.target.address, self.source.address)
        if one.engine == "ce":
            self.worker.use()
            for _ in range(times):
                cu.cuMemcpyAsync(*ends, one.nbytes, stream)
        elif one.engine == "tma":
            blocks = _TMA_BLOCKS * self.worker.multiprocessors
            args = (*ends, one.nbytes, times)
            kernels.launch("dmaproof_tma_copy", self.worker, stream, *args, blocks=blocks, threads=32)
        else:
            self._queue_kernel(stream, times)

    def _queue_kernel(self, stream: Any, times: int) -> None:
        nchunks, source, target = self.transfer.nbytes // 16, self.source.address, self.target.address
        args: dict[str, tuple[int, ...]] = {
            "copy": (target, source, nchunks, times),
            "exchange": (target, source, nchunks, times),
            "read": (source, nchunks, times, target),
            "write": (target, nchunks, times, _VALUE),
        }
        work = self.transfer.work
        kernels.launch_wide(f"dmaproof_{work}_rounds", self.worker, stream, *args[work])

    @property
    def _by_owners(self) -> bool:
        return HOST not in (self.transfer.source, self.transfer.target) and self.transfer.work == "copy"

    def mark(self, seed: int) -> None:
        """Before the first copy: GPU memory that is to be copied to a GPU gets its words, the target others. What is
        only read has them, and what is only written does not have them yet."""
        if self._by_owners:
            fill(device(self.transfer.source), self.source, seed)
            fill(device(self.transfer.target), self.target, _before(seed))
        elif self.transfer.work == "read":
            _set(self.worker, self.source, _VALUE)
        elif self.transfer.work == "write":
            _set(self.worker, self.target, 0)

    def wrong(self, seed: int) -> Wrong | None:
        """After the last copy: what did not arrive as it was sent."""
        if self._by_owners:
            return self._wrong_to_owner(seed)
        if self.transfer.work in ("read", "write"):
            return self._wrong_sum()
        return self._wrong_marks(seed)

    def _wrong_to_owner(self, seed: int) -> Wrong | None:
        owner, nwords = device(self.transfer.target), self.target.nwords
        view = verify(owner, self.target, seed)
        if not view.wrong_words:
            return None
        old = nwords - verify(owner, self.target, _before(seed)).wrong_words
        writer = verify(self.worker, self.target, seed).wrong_words if self.worker is not owner else None
        return Wrong(self.transfer, nwords, view.wrong_words, view.first_wrong_offset, old, writer)

    def _wrong_sum(self) -> Wrong | None:
        """One more round, of which the sum of all words is known."""
        reads = self.transfer.work == "read"
        words, total = (self.source, self.target) if reads else (self.target, self.source)
        _set(self.worker, total, 0)
        args = (words.address, words.nbytes // 16, 1, total.address)
        run_to_end(self.worker, lambda s: kernels.launch_wide("dmaproof_read_rounds", self.worker, s, *args))
        right = int(_out(total, self.worker, 0, 4)[0]) == _VALUE * words.nwords & 0xFFFFFFFF
        return None if right else Wrong(self.transfer, words.nwords, words.nwords, None)

    def _wrong_marks(self, seed: int) -> Wrong | None:
        """One more copy, of memory that is marked at its head and its tail."""
        nwords = min(_MARK_NBYTES, self.transfer.nbytes // 2) // 4
        sent, before = (kernels.pattern(2 * nwords, one) for one in (seed, _before(seed)))
        spots = (0, self.transfer.nbytes - 4 * nwords)
        for at, part in zip(spots, (slice(nwords), slice(nwords, None)), strict=True):
            _in(self.source, self.worker, at, sent[part])
            _in(self.target, self.worker, at, before[part])
        run_to_end(self.worker, lambda stream: self.queue(stream, 1))
        expected = [sent]
        if self.transfer.work == "exchange":
            stripes = np.arange(len(sent)) // _STRIPE_WORDS % 2 == 0  # the kernel's `here` is the target
            expected = [np.where(stripes, sent, before)] * 2
        for buffer, right in zip((self.target, self.source), expected, strict=False):
            found = np.concatenate([_out(buffer, self.worker, at, 4 * nwords) for at in spots])
            bad = np.flatnonzero(found != right)
            if len(bad):
                first = spots[int(bad[0]) // nwords] + int(bad[0]) % nwords * 4
                return Wrong(self.transfer, len(right), len(bad), first)
        return None


@contextmanager
def placed(transfer: Transfer) -> Iterator[Placed]:
    """``transfer`` with memory of its own, for as long as the block runs."""
    worker = device(transfer.worker_end)
    source_nbytes, target_nbytes = (
        _SUM_NBYTES if transfer.work == other else transfer.nbytes for other in ("write", "read")
    )
    with (
        memory_of(transfer.source, worker, source_nbytes) as source,
        memory_of(transfer.target, worker, target_nbytes) as target,
    ):
        yield Placed(transfer, worker, source, target)


def _before(seed: int) -> int:
    """The seed of what the target holds before."""
    return (seed + _OTHER) & 0xFFFFFFFF


def _set(gpu: Device, buffer: Buffer, value: int) -> None:
    gpu.use()
    cu.cuMemsetD32(buffer.address, value, buffer.nwords)
    cu.cuCtxSynchronize()  # a fill may return before it is done


def _in(buffer: Buffer, gpu: Device, at: int, words: Words) -> None:
    if buffer.words is not None:
        buffer.words[at // 4 : at // 4 + len(words)] = words
        return
    data = np.ascontiguousarray(words)
    gpu.use()
    cu.cuMemcpyHtoD(buffer.address + at, data.ctypes.data, data.nbytes)
    cu.cuCtxSynchronize()  # from pageable memory the call returns before the data is there


def _out(buffer: Buffer, gpu: Device, at: int, nbytes: int) -> Words:
    if buffer.words is not None:
        return buffer.words[at // 4 : (at + nbytes) // 4].copy()
    words = np.zeros(nbytes // 4, np.uint32)
    gpu.use()
    cu.cuMemcpyDtoH(words.ctypes.data, buffer.address + at, nbytes)
    return words
