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
from dmaproof.cuda.memory import pinned
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
        if flag.cpu[1]:
            raise HoldGaveUp(f"the stream was not released within {_HOLD_LIMIT_NS / 1e9:.0f} s: sample discarded")
        return tuple(float(cu.cuEventElapsedTime(start, end)) for start, end in spans)


def run_to_end(device: Device, queue: Callable[[Any], None]) -> None:
    """Queue once on a stream of ``device`` and wait for it."""
    with stream_on(device) as stream:
        queue(stream)
        device.use()
        cu.cuStreamSynchronize(stream)
