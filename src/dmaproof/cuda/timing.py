"""Timing on the device: events around queued work, behind a kernel that holds the stream until all is queued.

Without the hold, what is measured for short copies is how fast the CPU queues them. The hold has a limit of its own;
a sample whose hold gave up is discarded and the workload fails, never silently slower.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from dmaproof.cuda import kernels
from dmaproof.cuda.device import Device
from dmaproof.cuda.driver import cu
from dmaproof.cuda.memory import Buffer, pinned
from dmaproof.errors import DmaproofError

_HOLD_LIMIT_NS = 8_000_000_000
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: the null stream of a context must not order these


class HoldGaveUp(DmaproofError):  # noqa: N818 - an outcome
    """The kernel that held the stream gave up before all work was queued: the sample is worthless."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One stream of one GPU with the work to time on it: ``queue(stream)`` queues one repetition."""

    device: Device
    queue: Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Burst:
    """As a Lane, where ``queue(stream, repetitions)`` queues any number of repetitions at once."""

    device: Device
    queue: Callable[[Any, int], None]


@dataclass(frozen=True, slots=True)
class Elapsed:
    """Milliseconds of one sample: of each burst, and until the last of them was done."""

    each_ms: tuple[float, ...]
    total_ms: float


@contextmanager
def stream_on(device: Device) -> Iterator[Any]:
    device.use()
    stream = cu.cuStreamCreate(_NON_BLOCKING)
    try:
        yield stream
    finally:
        device.use()
        cu.cuStreamDestroy(stream)


@contextmanager
def _event_on(device: Device) -> Iterator[Any]:
    device.use()
    event = cu.cuEventCreate(0)
    try:
        yield event
    finally:
        device.use()
        cu.cuEventDestroy(event)


def elapsed_ms(lanes: Sequence[Lane], repetitions: int, hold: bool = True) -> tuple[float, ...]:
    """Milliseconds that ``repetitions`` of each lane's work take on the device, all lanes released at once.

    Without ``hold`` work starts as it is queued: for work whose queueing may itself wait for the device.
    """
    for lane in lanes:
        kernels.load_all(lane.device)
    with ExitStack() as stack:
        flag = stack.enter_context(pinned(lanes[0].device, 8))
        flag.cpu[:] = 0 if hold else (1, 0)
        streams = [stack.enter_context(stream_on(lane.device)) for lane in lanes]
        spans = [[stack.enter_context(_event_on(lane.device)) for _ in range(2)] for lane in lanes]
        try:
            for lane, stream, (start, end) in zip(lanes, streams, spans, strict=True):
                kernels.launch_single("dmaproof_hold", lane.device, stream, flag.address, _HOLD_LIMIT_NS)
                cu.cuEventRecord(start, stream)
                for _ in range(repetitions):
                    lane.queue(stream)
                lane.device.use()
                cu.cuEventRecord(end, stream)
        finally:
            flag.cpu[0] = 1  # also when queueing failed: a held stream could not be destroyed
        for lane, stream in zip(lanes, streams, strict=True):
            lane.device.use()
            cu.cuStreamSynchronize(stream)
        _refuse_late(flag)
        return tuple(float(cu.cuEventElapsedTime(start, end)) for start, end in spans)


def joint_ms(bursts: Sequence[Burst], warm_ups: int, repetitions: int, samples: int) -> tuple[Elapsed, ...]:
    """``samples`` times: each burst's warm-ups, then all bursts at once. The method of nvbandwidth (memcpy.cpp,
    doMemcpyCore): streams are held until all is queued, and no burst begins before the first one's warm-ups are over;
    here, not before everyone's are. Raises HoldGaveUp where that took too long for a stream to be held.
    """
    for burst in bursts:
        kernels.load_all(burst.device)
    with ExitStack() as stack:
        flag = stack.enter_context(pinned(bursts[0].device, 8))
        tracks = [stack.enter_context(_track(burst)) for burst in bursts]
        total = stack.enter_context(_event_on(bursts[0].device))
        return tuple(_joint_sample(tracks, flag, total, warm_ups, repetitions) for _ in range(samples))


@dataclass(frozen=True, slots=True)
class _Track:
    burst: Burst
    stream: Any
    warm: Any
    start: Any
    end: Any

    def record(self, event: Any) -> None:
        self.burst.device.use()
        cu.cuEventRecord(event, self.stream)

    def wait(self, event: Any) -> None:
        self.burst.device.use()
        cu.cuStreamWaitEvent(self.stream, event, 0)


@contextmanager
def _track(burst: Burst) -> Iterator[_Track]:
    with ExitStack() as stack:
        stream = stack.enter_context(stream_on(burst.device))
        yield _Track(burst, stream, *(stack.enter_context(_event_on(burst.device)) for _ in range(3)))


def _joint_sample(tracks: Sequence[_Track], flag: Buffer, total: Any, warm_ups: int, repetitions: int) -> Elapsed:
    flag.cpu[:] = 0
    try:
        for track in tracks:
            kernels.launch_single("dmaproof_hold", track.burst.device, track.stream, flag.address, _HOLD_LIMIT_NS)
            if warm_ups:
                track.burst.queue(track.stream, warm_ups)
        _line_up(tracks)
        for track in tracks:
            track.burst.queue(track.stream, repetitions)
            track.record(track.end)
            if track is not tracks[0]:
                tracks[0].wait(track.end)
        tracks[0].record(total)
    finally:
        flag.cpu[0] = 1  # also when queueing failed: a held stream could not be destroyed
    for track in tracks:
        track.burst.device.use()
        cu.cuStreamSynchronize(track.stream)
    _refuse_late(flag)
    each = tuple(float(cu.cuEventElapsedTime(track.start, track.end)) for track in tracks)
    return Elapsed(each, float(cu.cuEventElapsedTime(tracks[0].start, total)))


def _line_up(tracks: Sequence[_Track]) -> None:
    """All tracks start together, once everyone has come to here."""
    first, *others = tracks
    for track in others:
        track.record(track.warm)
        first.wait(track.warm)
    first.record(first.start)
    for track in others:
        track.wait(first.start)
        track.record(track.start)


def _refuse_late(flag: Buffer) -> None:
    if flag.cpu[1]:
        raise HoldGaveUp(f"the stream was not released within {_HOLD_LIMIT_NS / 1e9:.0f} s: sample discarded")


def run_to_end(device: Device, queue: Callable[[Any], None]) -> None:
    """Queue once on a stream of ``device`` and wait for it."""
    with stream_on(device) as stream:
        queue(stream)
        device.use()
        cu.cuStreamSynchronize(stream)
