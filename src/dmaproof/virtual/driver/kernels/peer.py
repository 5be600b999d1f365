"""Counterparts of dmaproof/cuda/kernels/peer.cu."""

from __future__ import annotations

import time
from collections.abc import Generator

import numpy as np

from dmaproof.virtual.driver.access import Operation, Span
from dmaproof.virtual.driver.chunks import copy
from dmaproof.virtual.driver.kernels import pattern
from dmaproof.virtual.driver.kernels.counterpart import Launch, counterpart
from dmaproof.virtual.driver.rights import may

_WORD, _RESULT_NBYTES = 4, 24


@counterpart("dmaproof_copy_bytes", "pointer", "pointer", "u64")
def copy_bytes(launch: Launch, target: int, source: int, nbytes: int) -> None:
    if nbytes:
        of = launch.operation.span(source, nbytes, "read")
        to = launch.operation.span(target, nbytes, "write")
        copy(to.memory, to.offset, of.memory, of.offset, nbytes)


@counterpart("dmaproof_red", "pointer", "u64", "u32")
def red(launch: Launch, words: int, nwords: int, rounds: int) -> None:
    if nwords and rounds:
        _add(launch.operation.span(words, nwords * _WORD, "atomic"), rounds)


@counterpart("dmaproof_atom", "pointer", "u64", "u32", "pointer")
def atom(launch: Launch, words: int, nwords: int, rounds: int, last: int) -> None:
    if not nwords:
        return
    before = _add(launch.operation.span(words, nwords * _WORD, "atomic"), rounds)
    old = before + np.uint32(rounds - 1) if rounds else np.zeros(nwords, np.uint32)
    launch.operation.span(last, nwords * _WORD, "write").write(0, old.view(np.uint8))


def _add(span: Span, rounds: int) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    """Adds ``rounds`` to each word; what was there before."""
    before = np.ascontiguousarray(span.read()).view(np.uint32).copy()
    span.write(0, (before + np.uint32(rounds)).view(np.uint8))
    return before


class _Told:
    """The words that one side reads and the words that it writes, each reached once and used in every round."""

    def __init__(self, operation: Operation, read: int, written: int) -> None:
        self._operation, self._va = operation, read
        self._read, self._written = operation.span(read, _WORD, "read"), operation.span(written, _WORD, "write")

    def say(self, value: int) -> None:
        self._written.write(0, np.array([value], np.uint32).view(np.uint8))

    def hears(self, value: int, timeout_ns: int) -> Generator[None, None, bool]:
        """Polls, in real time."""
        begin = time.monotonic_ns()
        while int(np.ascontiguousarray(self._read.read()).view(np.uint32)[0]) != value:
            if time.monotonic_ns() - begin > timeout_ns:
                return False
            yield
            found = self._operation.driver.space.find(self._va)
            if found is None or not may(self._operation.context, found, "read"):  # given back meanwhile
                self._operation.illegal(self._va, "read")
        return True


@counterpart("dmaproof_send", "pointer", "u64", "pointer", "pointer", "u32", "u64", "pointer")
def send(
    launch: Launch, data: int, nwords: int, flag: int, ack: int, rounds: int, timeout_ns: int, result: int
) -> Generator[None, None, float]:
    operation = launch.operation
    words, told = operation.span(data, nwords * _WORD, "write"), _Told(operation, ack, flag)
    counts = operation.span(result, 16, "write")
    for turn in range(1, rounds + 1):
        words.write(0, pattern.words(0, nwords, turn).view(np.uint8))
        told.say(turn)
        answered = yield from told.hears(turn, timeout_ns)
        counts.write(0, np.array([turn, turn if answered else turn - 1], np.uint64).view(np.uint8))
        if not answered:
            break
    return _end(launch, rounds)


@counterpart("dmaproof_receive", "pointer", "u64", "pointer", "pointer", "u32", "u64", "pointer")
def receive(
    launch: Launch, data: int, nwords: int, flag: int, ack: int, rounds: int, timeout_ns: int, result: int
) -> Generator[None, None, float]:
    operation = launch.operation
    words, told = operation.span(data, nwords * _WORD, "read"), _Told(operation, flag, ack)
    counts = operation.span(result, _RESULT_NBYTES, "write")
    for turn in range(1, rounds + 1):
        flagged = yield from told.hears(turn, timeout_ns)
        seen = counts.read().copy().view(np.uint64)
        seen[0] = turn if flagged else turn - 1
        wrong = np.count_nonzero(np.ascontiguousarray(words.read()).view(np.uint32) != pattern.words(0, nwords, turn))
        if flagged and wrong:
            seen[1] += np.uint64(wrong)
            seen[2] = min(seen[2], np.uint64(turn))
        counts.write(0, seen.view(np.uint8))
        if not flagged:
            break
        told.say(turn)
    return _end(launch, rounds)


def _end(launch: Launch, rounds: int) -> float:
    """A round is at least one trip to each side."""
    legs = launch.operation.legs
    return launch.ready_ns + launch.operation.extra_ns + 2 * rounds * max(leg.latency_ns for leg in legs)
