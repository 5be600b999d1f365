"""Workload: data first, then a flag that says so. Whoever sees the flag must see the data.

CUDA promises it for a release and an acquire of system scope (PTX ISA, memory consistency model), whichever links the
two take. What breaks it is below CUDA: relaxed ordering where there must be none, a switch that lets writes pass each
other, a mapping that is not what it seems.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from dmaproof.cuda import kernels
from dmaproof.cuda.device import Device, can_access_peer, device, peers
from dmaproof.cuda.driver import cu
from dmaproof.cuda.integrity import View, Written, fill, look
from dmaproof.cuda.landing import copied, seen
from dmaproof.cuda.memory import Buffer, on_device, pinned
from dmaproof.cuda.timing import stream_on

FlagPlace = Literal["owner", "host"]
_THREADS, _OLD_SEED, _NONE = 256, 0x5A5A0001, (1 << 64) - 1
_CONTROL_NBYTES, _RESULT_NBYTES = 256, 24


@dataclass(frozen=True, slots=True)
class Ordered:
    """Of ``rounds``, so many were ``written``, ``flagged`` to the owner and ``answered``. ``wrong_words``, over all
    rounds, were not there when their flag was; ``first_wrong_round`` is the first with such. ``last`` is what the
    rounds have left in the end. Fewer answers than rounds: somebody gave up waiting. ``answer`` is then the owner's
    last answer, of one word, as a write of its own into the writer's memory; None where answers go to the host's."""

    rounds: int
    written: int
    flagged: int
    answered: int
    wrong_words: int
    first_wrong_round: int | None
    last: Written
    can_access: bool
    answer: Written | None = None

    @property
    def in_order(self) -> bool:
        return self.answered == self.rounds and not self.wrong_words and not self.last.owner.wrong_words


def ordered_writes(
    writer: str, owner: str, flag: FlagPlace, nwords: int, rounds: int, timeout_s: float = 2.0
) -> Ordered:
    """GPU ``writer`` writes ``nwords`` into memory of GPU ``owner`` and then a flag, there or in the host's memory; the
    owner compares and answers. ``timeout_s`` is how long either waits for the other, each round."""
    writing, owning = device(writer), device(owner)
    with ExitStack() as stack:
        for one in (writing, owning):
            kernels.load_all(one)  # behind a kernel that waits, nothing may be loaded
        stack.enter_context(peers(writing, owning))
        data = stack.enter_context(on_device(owning, 4 * nwords))
        fill(owning, data, _OLD_SEED)
        flagged, answer = (stack.enter_context(_control(gpu, on_host=flag == "host")) for gpu in (owning, writing))
        sent, received = (stack.enter_context(_result(gpu)) for gpu in (writing, owning))
        streams = [stack.enter_context(stream_on(gpu)) for gpu in (owning, writing)]
        rest = (rounds, int(timeout_s * 1e9))
        common = (data.address, nwords, flagged.address, answer.address, *rest)
        for name, gpu, stream, result in (
            ("dmaproof_receive", owning, streams[0], received),
            ("dmaproof_send", writing, streams[1], sent),
        ):
            kernels.launch(name, gpu, stream, *common, result.address, blocks=1, threads=_THREADS)
        for gpu, stream in zip((owning, writing), streams, strict=True):
            gpu.use()
            cu.cuStreamSynchronize(stream)
        told = _told(writing, owning, data, rounds, _read(writing, sent), _read(owning, received))
        if flag == "host" or told.answered == told.flagged:
            return told
        return replace(told, answer=_answer(writing, owning, answer.address, told.flagged))


def _told(writing: Device, owning: Device, data: Buffer, rounds: int, sent: list[int], received: list[int]) -> Ordered:
    return Ordered(
        rounds=rounds,
        written=sent[0],
        flagged=received[0],
        answered=sent[1],
        wrong_words=received[1],
        first_wrong_round=None if received[2] == _NONE else received[2],
        last=look(writing, owning, data, sent[0], _OLD_SEED),
        can_access=can_access_peer(writing, owning),
    )


def _answer(writing: Device, owning: Device, address: int, last: int) -> Written:
    """Answers are numbers that grow: a smaller one is from before."""
    held, through = (int(one.view(np.uint32)[0]) for one in (copied(writing, address, 4), seen(owning, address, 4)))
    return Written(_word(held == last), 1, int(held < last), _word(through == last))


def _word(is_right: bool) -> View:
    return View(0, None) if is_right else View(1, 0)


@contextmanager
def _control(gpu: Device, on_host: bool) -> Iterator[Buffer]:
    """A word of zero that both GPUs reach: in memory of ``gpu``, or of the host."""
    with pinned(gpu, _CONTROL_NBYTES) if on_host else on_device(gpu, _CONTROL_NBYTES) as buffer:
        gpu.use()
        cu.cuMemsetD8(buffer.address, 0, _CONTROL_NBYTES)
        cu.cuCtxSynchronize()  # a fill may return before it is done
        yield buffer


@contextmanager
def _result(gpu: Device) -> Iterator[Buffer]:
    words = np.array([0, 0, _NONE], np.uint64)
    with on_device(gpu, _RESULT_NBYTES) as buffer:
        cu.cuMemcpyHtoD(buffer.address, words.ctypes.data, _RESULT_NBYTES)
        cu.cuCtxSynchronize()  # from pageable memory the call returns before the data is there
        yield buffer


def _read(gpu: Device, result: Buffer) -> list[int]:
    words = np.zeros(3, np.uint64)
    gpu.use()
    cu.cuMemcpyDtoH(words.ctypes.data, result.address, _RESULT_NBYTES)
    return [int(word) for word in words]
