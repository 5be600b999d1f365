"""Graphs: work captured once from a stream and launched again and again, and workloads that write to a peer by them.

A driver may map a peer's memory anew for a graph, or keep a mapping that has gone stale: replays have failed where
plain copies passed (er0080#126). So data changes before every replay, and the owner looks after each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dmaproof.cuda import kernels
from dmaproof.cuda.device import Device, can_access_peer, device, peers
from dmaproof.cuda.driver import cu, raw
from dmaproof.cuda.integrity import Written, fill, look
from dmaproof.cuda.memory import on_device
from dmaproof.cuda.timing import Lane, elapsed_ms, run_to_end, stream_on
from dmaproof.cuda.writes import Writer, queue_write
from dmaproof.measurement import Measurement

_WARM_UPS = 1


@contextmanager
def executable(device: Device, queue: Callable[[Any], None]) -> Iterator[Any]:
    """What ``queue(stream)`` queues on a stream of ``device``, captured into a graph that can be launched on any.

    Kernels are loaded before: that a capture allows it is nowhere said. The capture is of this thread's own kind, so
    that other threads may go on allocating (cuThreadExchangeStreamCaptureMode).
    """
    kernels.load_all(device)
    with stream_on(device) as stream:
        graph = _captured(stream, queue)
        try:
            made = cu.cuGraphInstantiate(graph, 0)
        finally:
            cu.cuGraphDestroy(graph)
        try:
            cu.cuGraphUpload(made, stream)
            cu.cuStreamSynchronize(stream)
            yield made
        finally:
            device.use()
            cu.cuGraphExecDestroy(made)


def _captured(stream: Any, queue: Callable[[Any], None]) -> Any:
    cu.cuStreamBeginCapture(stream, cu.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
    try:
        queue(stream)
    except BaseException:
        raw("cuStreamEndCapture")(stream)  # an error of its own would only hide the first one
        raise
    return cu.cuStreamEndCapture(stream)


@dataclass(frozen=True, slots=True)
class Replays:
    """``plain``: the same write by itself, before the graph. ``can_access`` is what cuDeviceCanAccessPeer says."""

    plain: Written
    replays: tuple[Written, ...]
    can_access: bool

    def first_wrong(self) -> tuple[int, Written]:
        """The first write that did not land, and its number: 0 is the plain one, and so it is where all have landed."""
        writes = list(enumerate((self.plain, *self.replays)))
        return next((one for one in writes if one[1].owner.wrong_words), writes[0])


def replayed_writes(writer: str, owner: str, nbytes: int, engine: Writer, replays: int) -> Replays:
    """GPU ``writer`` writes ``nbytes`` into memory of GPU ``owner`` by itself and then ``replays`` times by one graph,
    each time other data. The owner looks after each."""
    writing, owning = device(writer), device(owner)
    with peers(writing, owning), on_device(writing, nbytes) as source, on_device(owning, nbytes) as target:
        fill(owning, target, 0)
        queue = queue_write(engine, writing, owning, target.address, source.address, nbytes)

        def write(seed: int, run: Callable[[], None]) -> Written:
            fill(writing, source, seed)
            run()
            return look(writing, owning, target, seed, seed - 1)

        plain = write(1, lambda: run_to_end(writing, queue))
        with executable(writing, queue) as made:
            launch = lambda: run_to_end(writing, lambda stream: launch_graph(writing, made, stream))  # noqa: E731
            found = tuple(write(seed, launch) for seed in range(2, replays + 2))
        return Replays(plain, found, can_access_peer(writing, owning))


def launch_graph(device: Device, made: Any, stream: Any) -> None:
    device.use()
    cu.cuGraphLaunch(made, stream)


def replay_bandwidth(
    source: str, target: str, engine: Writer, nbytes: int, copies: int = 16, samples: int = 3
) -> Measurement:
    """GB/s of one graph of ``copies`` writes, one behind the other, from GPU ``source`` to GPU ``target``."""
    writing, owning = device(source), device(target)
    with peers(writing, owning), on_device(writing, nbytes) as of, on_device(owning, nbytes) as to:
        queue = queue_write(engine, writing, owning, to.address, of.address, nbytes)

        def queue_all(stream: Any) -> None:
            for _ in range(copies):
                queue(stream)

        with executable(writing, queue_all) as made:
            lane = Lane(writing, lambda stream: launch_graph(writing, made, stream))
            elapsed_ms([lane], _WARM_UPS)
            elapsed = [elapsed_ms([lane], 1)[0] for _ in range(samples)]
    method = (
        f"{engine} source-driven, one graph of {copies} x {nbytes} bytes a sample after {_WARM_UPS} warm-up, "
        "stream held while launching, device events"
    )
    return Measurement("bandwidth_GBps", "GB/s", tuple(copies * nbytes / (ms * 1e6) for ms in elapsed), method)
