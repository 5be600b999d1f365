"""Workload: one cell of a case of nvbandwidth (dmaproof.cuda.cases), measured by its method."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

from dmaproof.cuda import kernels
from dmaproof.cuda.cases import Cell
from dmaproof.cuda.copies import CHAIN_NBYTES, HOST, STRIDE_NBYTES, mapped, memory_of, write_chain
from dmaproof.cuda.device import device, peers
from dmaproof.cuda.memory import on_device
from dmaproof.cuda.placed import Placed, Wrong, placed
from dmaproof.cuda.timing import Burst, Elapsed, joint_ms
from dmaproof.measurement import Measurement
from dmaproof.progress import note

_WARM_UPS = 4
_LOADS = 1_000_000
"""Dependent loads over all multiprocessors of a GPU (nvbandwidth's latencyMemAccessCnt)."""
_ASKED = 16
"""How many multiprocessors are asked for their latency, evenly spread. nvbandwidth asks all, one after the other."""

_SEED = 0x6E7662
"""Of the first transfer's words; each has a seed of its own, so that what went to the wrong place is seen."""
_NAMES = {"read": "read_GBps", "write": "write_GBps"}
"""What only reads or only writes memory has a rate of its own, which is none of copies."""


@dataclass(frozen=True, slots=True)
class CellResult:
    """The cell's figure first: ``bandwidth_GBps``, ``total_GBps`` of several copies, ``read_GBps`` and ``write_GBps``
    within memory, ``latency_ns``. Of two copies each, then the other's (``opposite_GBps``) and their sum
    (``sum_GBps``). ``wrong``: the transfers that did not arrive as they were sent."""

    measurements: tuple[Measurement, ...]
    wrong: tuple[Wrong, ...] = ()


@dataclass(frozen=True, slots=True)
class CellResults:
    """Of the first cells that were asked for, at least one."""

    results: tuple[CellResult, ...]


def measure_cells(cells: tuple[Cell, ...], for_s: float = 1.0) -> CellResults:
    """As many of ``cells``, from the first on, as can be begun within ``for_s`` seconds: a call costs as much as a
    fast cell, and a slow one may need all the time that one workload gets.

    Raises CudaError, HoldGaveUp, and Unsupported where a GPU lacks what a cell needs.
    """
    end_s = time.monotonic() + for_s
    results = [_measure(cells[0])]
    for cell in cells[1:]:
        if time.monotonic() > end_s:
            break
        results.append(_measure(cell))
    return CellResults(tuple(results))


def _measure(cell: Cell, copies: int = 16, samples: int = 3) -> CellResult:
    """All transfers of ``cell`` at once."""
    note("stage", text=_told(cell))
    if cell.figure == "latency":
        return CellResult((_chase(cell),))
    for one in cell.transfers:
        if one.engine == "tma":
            kernels.require("dmaproof_tma_copy", device(one.worker_end))
    with ExitStack() as stack:
        stack.enter_context(mapped(cell.transfers))
        lanes = [stack.enter_context(placed(one)) for one in cell.transfers]
        note("stage", text=_told(cell))  # again: of a hang people read the last note
        for number, lane in enumerate(lanes):
            lane.mark(_SEED + number)
        runs = joint_ms([lane.burst() for lane in lanes], _WARM_UPS, copies, samples)
        return CellResult(_figures(cell, copies, runs), _wrong(cell, lanes))


def _told(cell: Cell) -> str:
    one = cell.transfers[0]
    more = f", and {len(cell.transfers) - 1} more at once" if len(cell.transfers) > 1 else ""
    return f"{one.work} by {one.engine}, {one.source} to {one.target}{more}"


def _wrong(cell: Cell, lanes: Sequence[Placed]) -> tuple[Wrong, ...]:
    """Of the transfers that are measured: the others only load the links."""
    measured = lanes[:1] if cell.figure in ("first", "half") else lanes
    found = (lane.wrong(_SEED + number) for number, lane in enumerate(measured))
    return tuple(one for one in found if one is not None)


def _figures(cell: Cell, copies: int, runs: Sequence[Elapsed]) -> tuple[Measurement, ...]:
    first, *others = (one.nbytes * copies / 1e6 for one in cell.transfers)
    method = (
        f"{copies} x {cell.transfers[0].nbytes} bytes a sample after {_WARM_UPS} warm-ups, streams held while "
        "queueing, device events"
    )
    if cell.figure == "each":
        pairs = [(first / run.each_ms[0], others[0] / run.each_ms[1]) for run in runs]
        named = {
            "bandwidth_GBps": [there for there, _ in pairs],
            "opposite_GBps": [back for _, back in pairs],
            "sum_GBps": [there + back for there, back in pairs],
        }
    elif cell.figure == "total":
        named = {"total_GBps": [(first + sum(others)) / run.total_ms for run in runs]}
    else:
        share = 2 if cell.figure == "half" else 1
        named = {_NAMES.get(cell.transfers[0].work, "bandwidth_GBps"): [first / share / run.each_ms[0] for run in runs]}
    return tuple(Measurement(name, "GB/s", tuple(samples), method) for name, samples in named.items())


def _chase(cell: Cell) -> Measurement:
    """Nanoseconds of one dependent load: the source's GPU follows pointers in the target's memory."""
    transfer = cell.transfers[0]
    gpu, owner = device(transfer.source), transfer.target
    kernel = "dmaproof_tma_chase" if transfer.engine == "tma" else "dmaproof_chase_on"
    kernels.require(kernel, gpu)
    blocks = gpu.multiprocessors
    asked = [number * blocks // _ASKED for number in range(min(_ASKED, blocks))]
    steps, turn = _LOADS // blocks, itertools.cycle(asked)
    mapping = nullcontext() if owner == HOST else peers(gpu, device(owner))
    with mapping, memory_of(owner, gpu, CHAIN_NBYTES) as chain, on_device(gpu, 8) as end:
        write_chain(gpu if owner == HOST else device(owner), chain)
        note("stage", text=_told(cell))

        def queue(stream: Any, _times: int) -> None:
            args = (chain.address, steps, end.address, next(turn))
            kernels.launch(kernel, gpu, stream, *args, blocks=blocks, threads=1)

        runs = joint_ms([Burst(gpu, queue)], 0, 1, len(asked))
    method = (
        f"{steps} dependent loads over {CHAIN_NBYTES} bytes, stride {STRIDE_NBYTES}, by each of {len(asked)} "
        "multiprocessors, device events"
    )
    return Measurement("latency_ns", "ns", tuple(run.total_ms * 1e6 / steps for run in runs), method)
