"""Copies between two GPUs, both ways, that go on while something else is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from dmaproof.cuda.device import Device
from dmaproof.cuda.driver import cu
from dmaproof.cuda.integrity import Written, fill, look
from dmaproof.cuda.memory import Buffer, on_device
from dmaproof.cuda.timing import stream_on
from dmaproof.cuda.writes import queue_write

_NBYTES, _COPIES, _OLD_SEED = 16 << 20, 8, 10


@dataclass(frozen=True, slots=True)
class _Lane:
    writing: Device
    owning: Device
    source: Buffer
    target: Buffer
    stream: Any
    seed: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """Two lanes, one each way."""

    lanes: tuple[_Lane, ...]

    def go_on(self) -> None:
        """Queue more: 128 MiB each way, which no link carries in less than a few hundred microseconds."""
        for lane in self.lanes:
            ends = lane.target.address, lane.source.address
            queue = queue_write("ce", lane.writing, lane.owning, *ends, lane.source.nbytes)
            for _ in range(_COPIES):
                queue(lane.stream)

    def end(self) -> tuple[Written, ...]:
        """Wait for all of it; what each lane has left."""
        for lane in self.lanes:
            lane.writing.use()
            cu.cuStreamSynchronize(lane.stream)
        return tuple(look(one.writing, one.owning, one.target, one.seed, _OLD_SEED) for one in self.lanes)


@contextmanager
def traffic(one: Device, other: Device) -> Iterator[Traffic]:
    """Between two GPUs that have mapped each other: the first lane from ``one`` to ``other``."""
    with ExitStack() as stack:
        lanes = []
        for seed, (writing, owning) in enumerate(((one, other), (other, one)), _OLD_SEED + 1):
            source = stack.enter_context(on_device(writing, _NBYTES))
            target = stack.enter_context(on_device(owning, _NBYTES))
            fill(writing, source, seed)
            fill(owning, target, _OLD_SEED)
            lanes.append(_Lane(writing, owning, source, target, stack.enter_context(stream_on(writing)), seed))
        yield Traffic(tuple(lanes))
