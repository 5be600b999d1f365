"""Workloads: copies from and to every kind of memory, and of every size; and what the owner of the memory finds there.

The copy engine does them all (cuMemcpyAsync). Whoever did not write the data looks at it: a GPU's kernel in its own
memory, the CPU in the host's, the exporting process in memory that another one opened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from dmaproof.cuda.device import Device, device, peers
from dmaproof.cuda.driver import cu
from dmaproof.cuda.integrity import View, Written, fill, look, verify, written
from dmaproof.cuda.memory import Buffer, on_device
from dmaproof.cuda.memory.host import HOST_KINDS, NOT_HELD, HostKind
from dmaproof.cuda.memory.owned import DeviceKind, Held, owned
from dmaproof.cuda.timing import Lane, elapsed_ms
from dmaproof.cuda.unified.words import cpu_fill, cpu_view
from dmaproof.measurement import Measurement
from dmaproof.progress import note

_WARM_UPS, _COPIES = 4, 16
_OLD = 0x5A5A0002


@dataclass(frozen=True, slots=True)
class HostCopies:
    """``down``: from host memory to the GPU, which then looked (``on_device``). ``up``: back, and the CPU looked."""

    down: Measurement
    up: Measurement
    on_device: View
    on_host: View


@dataclass(frozen=True, slots=True)
class PeerCopies:
    """``write`` into the owner's memory and ``read`` from there, both by the user's copy engine.

    ``wrote``: what is left of what was written. ``reader``: what the user found in its own memory of what it read.
    """

    write: Measurement
    read: Measurement
    wrote: Written
    reader: View


@dataclass(frozen=True, slots=True)
class SizedCopy:
    """A copy of ``nbytes``, and what it has left."""

    nbytes: int
    measurement: Measurement
    wrote: Written


@dataclass(frozen=True, slots=True)
class Sweep:
    """In the order asked for."""

    copies: tuple[SizedCopy, ...]


def host_copies(
    gpu: str, memory: HostKind, nbytes: int, copies: int = _COPIES, samples: int = 3, seed: int = 17
) -> HostCopies:
    """GB/s between ``memory`` and the memory of ``gpu``, both ways. Raises Unsupported where there is none of it."""
    one, held = device(gpu), memory not in NOT_HELD
    with HOST_KINDS[memory](one, nbytes) as host, on_device(one, nbytes) as local:
        note("allocation", va=host.address, nbytes=nbytes, memory=f"host ({memory})")
        cpu_fill(host, seed)
        fill(one, local, _OLD)  # memory that was freed and given out again may still have the words of an earlier call
        note("stage", text=f"{memory} memory to the GPU")
        name = "copy_GBps" if memory == "managed" else "bandwidth_GBps"  # managed pages need not come over the link
        down = _measure(one, _copy(one, local, host), nbytes, copies, samples, held, name)
        seen = verify(one, local, seed)
        fill(one, local, seed + 1)
        host.cpu[:] = 0
        note("stage", text=f"the GPU to {memory} memory")
        up = _measure(one, _copy(one, host, local), nbytes, copies, samples, held, name)
        return HostCopies(down, up, seen, cpu_view(host, seed + 1))


def peer_copies(
    user: str, owner: str, memory: DeviceKind, nbytes: int, copies: int = _COPIES, samples: int = 3, seed: int = 19
) -> PeerCopies:
    """GB/s between plain memory of GPU ``user`` and ``memory`` of GPU ``owner``, both ways by the user's engine.

    Raises Unsupported where the owner has no such memory, CudaError where it cannot be mapped.
    """
    using, owning = device(user), device(owner)
    with owned(memory, owning, [using], nbytes) as held, on_device(using, nbytes) as local:
        fill_by_owner(owning, held, _OLD)
        fill(using, local, seed)
        note("stage", text=f"{user} writes {memory} memory of {owner}")
        write = _measure(using, _copy(using, held.buffer, local), nbytes, copies, samples)
        wrote = look_by_owner(using, owning, held, (seed, _OLD))
        fill_by_owner(owning, held, seed + 1)
        note("stage", text=f"{user} reads {memory} memory of {owner}")
        read = _measure(using, _copy(using, local, held.buffer), nbytes, copies, samples)
        return PeerCopies(write, read, wrote, verify(using, local, seed + 1))


def look_by_owner(writing: Device, owning: Device, held: Held, seeds: tuple[int, int]) -> Written:
    """What a write of the new one of ``seeds``' patterns over the old one has left."""
    by_writer = partial(verify, writing, held.buffer, seeds[0])
    return written(partial(verify_by_owner, owning, held), by_writer, held.buffer.nwords, seeds)


def fill_by_owner(owner: Device, held: Held, seed: int) -> None:
    """By a kernel of the process that owns the memory."""
    if held.exporter is None:
        fill(owner, held.buffer, seed)
    else:
        held.exporter.ask(op="fill", seed=seed)


def verify_by_owner(owner: Device, held: Held, seed: int) -> View:
    """By a kernel of the process that owns the memory."""
    if held.exporter is None:
        return verify(owner, held.buffer, seed)
    return View(**held.exporter.ask(op="verify", seed=seed))


def copies_by_size(source: str, target: str, sizes: tuple[int, ...], samples: int = 3, seed: int = 23) -> Sweep:
    """GB/s of copies of each of ``sizes`` bytes from GPU ``source`` to GPU ``target``, in the same two buffers."""
    writing, owning = device(source), device(target)
    most = max(sizes)
    with peers(writing, owning), on_device(writing, most) as here, on_device(owning, most) as there:
        fill(writing, here, seed)
        return Sweep(tuple(_sized(writing, owning, here, there, nbytes, samples, seed) for nbytes in sizes))


def _sized(
    writing: Device, owning: Device, here: Buffer, there: Buffer, nbytes: int, samples: int, seed: int
) -> SizedCopy:
    source, target = Buffer(here.address, nbytes), Buffer(there.address, nbytes)
    note("stage", text=f"copies of {nbytes} bytes")
    fill(owning, target, _OLD)
    measured = _measure(writing, _copy(writing, target, source), nbytes, _COPIES, samples)
    return SizedCopy(nbytes, measured, look(writing, owning, target, seed, _OLD))


def _copy(by: Device, target: Buffer, source: Buffer) -> Callable[[Any], None]:
    """What queues one copy. Which devices the addresses mean, unified addressing knows."""

    def queue(stream: Any) -> None:
        by.use()
        cu.cuMemcpyAsync(target.address, source.address, target.nbytes, stream)

    return queue


def _measure(
    by: Device,
    queue: Callable[[Any], None],
    nbytes: int,
    copies: int,
    samples: int,
    held: bool = True,
    name: str = "bandwidth_GBps",
) -> Measurement:
    lanes = [Lane(by, queue)]
    elapsed_ms(lanes, _WARM_UPS, held)
    rates = tuple(nbytes * copies / (elapsed_ms(lanes, copies, held)[0] * 1e6) for _ in range(samples))
    method = (
        f"ce, {copies} x {nbytes} bytes a sample after {_WARM_UPS} warm-ups, "
        f"stream {'' if held else 'not '}held while queueing, device events"
    )
    return Measurement(name, "GB/s", rates, method)
