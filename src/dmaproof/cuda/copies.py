"""Workloads: copy bandwidth and latency between GPUs and host memory.

The method follows nvbandwidth: streams held until all is queued, warm-up copies first, device events, median of the
samples. Ends are PCI addresses or ``host`` (pinned memory). ``ce`` is cuMemcpyAsync or cuMemcpyPeerAsync, ``sm`` a
strided 16-byte copy kernel.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dmaproof.cuda import kernels
from dmaproof.cuda.device import Device, device, peers
from dmaproof.cuda.driver import cu
from dmaproof.cuda.memory import Buffer, on_device, pinned
from dmaproof.cuda.timing import Lane, elapsed_ms
from dmaproof.measurement import Measurement
from dmaproof.progress import note

Engine = Literal["ce", "sm", "tma"]
"""Copy engine, a kernel's loads and stores, or the bulk copies that a kernel starts (Hopper and later)."""
Initiator = Literal["source", "target"]
Work = Literal["copy", "exchange", "read", "write", "chase"]
HOST = "host"
_WARM_UPS = 4


@dataclass(frozen=True, slots=True)
class Transfer:
    """What to copy: ``peer`` maps the GPUs' memory to each other first, else the driver stages through the host.

    ``initiator`` names the end whose GPU does the work: the source writes, the target reads. Kernels may do other
    ``work`` than copying: ``exchange`` moves half the bytes each way, ``read`` and ``write`` stay within the source's
    memory, and ``chase`` lets the source follow pointers in the target's. An ``executor`` works instead of either end.
    """

    source: str
    target: str
    engine: Engine
    nbytes: int
    peer: bool = True
    initiator: Initiator = "source"
    work: Work = "copy"
    executor: str | None = None

    @property
    def worker_end(self) -> str:
        if self.executor is not None:
            return self.executor
        wanted, other = (self.source, self.target) if self.initiator == "source" else (self.target, self.source)
        return other if wanted == HOST else wanted


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """One measurement a transfer, in the order asked for."""

    measurements: tuple[Measurement, ...]


@dataclass(frozen=True, slots=True)
class Latency:
    measurement: Measurement


def copy_bandwidth(transfers: list[Transfer], copies: int = 16, samples: int = 3) -> Bandwidth:
    """GB/s of each of ``transfers``, all at once: one measures one way, a pair both ways."""
    with ExitStack() as stack:
        hold = not any(_is_staged(transfer) for transfer in transfers)
        stack.enter_context(mapped(transfers))
        lanes = [stack.enter_context(_lane(transfer)) for transfer in transfers]
        elapsed_ms(lanes, _WARM_UPS, hold)
        runs = [elapsed_ms(lanes, copies, hold) for _ in range(samples)]
    return Bandwidth(
        tuple(_bandwidth(transfer, copies, [run[index] for run in runs]) for index, transfer in enumerate(transfers))
    )


def sequence_bandwidth(transfers: list[Transfer], copies: int = 16, samples: int = 3, for_s: float = 1.0) -> Bandwidth:
    """GB/s of each of ``transfers``, one after the other: of as many, from the first on, as begin within ``for_s``."""
    end_s, found = time.monotonic() + for_s, list(copy_bandwidth(transfers[:1], copies, samples).measurements)
    for one in transfers[1:]:
        if time.monotonic() > end_s:
            break
        note("stage", text=f"{one.engine}, {one.source} to {one.target}, peer access {'on' if one.peer else 'off'}")
        found += copy_bandwidth([one], copies, samples).measurements
    return Bandwidth(tuple(found))


def _bandwidth(transfer: Transfer, copies: int, elapsed: Sequence[float]) -> Measurement:
    moved = transfer.nbytes * copies
    method = (
        f"{transfer.engine} {transfer.initiator}-driven, {copies} x {transfer.nbytes} bytes a sample after "
        f"{_WARM_UPS} warm-ups, stream {'not ' if _is_staged(transfer) else ''}held while queueing, device events"
    )
    return Measurement("bandwidth_GBps", "GB/s", tuple(moved / (ms * 1e6) for ms in elapsed), method)


@contextmanager
def _lane(transfer: Transfer) -> Iterator[Lane]:
    worker = device(transfer.worker_end)
    with ExitStack() as stack:
        source = stack.enter_context(memory_of(transfer.source, worker, transfer.nbytes))
        target = stack.enter_context(memory_of(transfer.target, worker, transfer.nbytes))
        yield Lane(worker, lambda stream: _queue(transfer, worker, source, target, stream))


@contextmanager
def memory_of(end: str, worker: Device, nbytes: int) -> Iterator[Buffer]:
    with pinned(worker, nbytes) if end == HOST else on_device(device(end), nbytes) as buffer:
        yield buffer


def _between_gpus(transfer: Transfer) -> bool:
    return HOST not in (transfer.source, transfer.target) and transfer.source != transfer.target


def _is_staged(transfer: Transfer) -> bool:
    """The driver copies through host memory, in pieces: queueing many such copies may wait for room."""
    return _between_gpus(transfer) and not transfer.peer


@contextmanager
def mapped(transfers: Sequence[Transfer]) -> Iterator[None]:
    """The peer mappings of all ``transfers``, each pair once, for as long as they are measured."""
    pairs = {
        frozenset((one.worker_end, end))
        for one in transfers
        for end in (one.source, one.target)
        if one.peer and end not in (HOST, one.worker_end)
    }
    with ExitStack() as stack:
        for pair in pairs:
            stack.enter_context(peers(*(device(bdf) for bdf in sorted(pair))))
        yield


def _queue(transfer: Transfer, worker: Device, source: Buffer, target: Buffer, stream: Any) -> None:
    if transfer.engine == "sm":
        kernels.launch_wide("dmaproof_copy", worker, stream, target.address, source.address, transfer.nbytes // 16)
        return
    worker.use()
    if not _between_gpus(transfer):
        cu.cuMemcpyAsync(target.address, source.address, transfer.nbytes, stream)
    else:
        ends = device(transfer.source).context, device(transfer.target).context
        cu.cuMemcpyPeerAsync(target.address, ends[1], source.address, ends[0], transfer.nbytes, stream)


_SMALL_NBYTES, _SMALL_COPIES = 16, 100


def copy_latency(source: str, target: str, peer: bool = True, samples: int = 3) -> Latency:
    """Nanoseconds a 16-byte copy by the copy engine takes from ``source`` to ``target``, mean of 100 in a row."""
    transfer = Transfer(source, target, "ce", _SMALL_NBYTES, peer)
    with mapped([transfer]), _lane(transfer) as lane:
        elapsed_ms([lane], _WARM_UPS)
        times = [elapsed_ms([lane], _SMALL_COPIES)[0] * 1e6 / _SMALL_COPIES for _ in range(samples)]
    method = f"ce, {_SMALL_COPIES} copies of {_SMALL_NBYTES} bytes queued back to back, device events"
    return Latency(Measurement("latency_ns", "ns", tuple(times), method))


CHAIN_NBYTES, STRIDE_NBYTES, _STEPS = 2 << 20, 128, 1 << 14


def load_latency(reader: str, owner: str, samples: int = 3) -> Latency:
    """Nanoseconds one dependent load of GPU ``reader`` takes from memory of ``owner`` (a GPU or ``host``).

    A pointer chase over 2 MiB in steps of 128 bytes, as nvbandwidth's device_to_device_latency_sm.
    """
    gpu = device(reader)
    mapping = nullcontext() if owner in (HOST, reader) else peers(gpu, device(owner))
    with mapping, memory_of(owner, gpu, CHAIN_NBYTES) as chain, on_device(gpu, 8) as end:
        write_chain(gpu if owner == HOST else device(owner), chain)

        def queue(stream: Any) -> None:
            kernels.launch_single("dmaproof_chase", gpu, stream, chain.address, _STEPS, end.address)

        elapsed_ms([Lane(gpu, queue)], 1)
        times = [elapsed_ms([Lane(gpu, queue)], 1)[0] * 1e6 / _STEPS for _ in range(samples)]
    method = f"sm, {_STEPS} dependent loads over {CHAIN_NBYTES} bytes, stride {STRIDE_NBYTES}, device events"
    return Latency(Measurement("latency_ns", "ns", tuple(times), method))


def write_chain(owner: Device, chain: Buffer) -> None:
    """Each 128-byte line's first word points to the next line, the last to the first."""
    nlines = CHAIN_NBYTES // STRIDE_NBYTES
    lines = np.zeros((nlines, STRIDE_NBYTES // 8), dtype=np.uint64)
    lines[:, 0] = chain.address + np.roll(np.arange(nlines, dtype=np.uint64), -1) * np.uint64(STRIDE_NBYTES)
    owner.use()
    cu.cuMemcpy(chain.address, lines.ctypes.data, CHAIN_NBYTES)
    cu.cuCtxSynchronize()  # from pageable memory the call returns before the data is there
