"""Workloads: a dma-buf is revoked while a peer uses it. Nothing after that may succeed, until it is mapped anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from dmaproof.endpoint.assigned.engine import TARGET, Engine, engine, on_bound
from dmaproof.endpoint.assigned.peer import IDENTITY_NBYTES, PeerDma, exported_to, offered, reads, try_peer
from dmaproof.endpoint.assigned.rules import Answer, ask
from dmaproof.endpoint.edu import SCRATCH
from dmaproof.errors import Unsupported
from dmaproof.vfio import command, dmabuf
from dmaproof.vfio.bind import bound
from dmaproof.vfio.device import Device, Feature
from dmaproof.vfio.dmabuf import DmaBuf
from dmaproof.vfio.iommufd import BoundDevice, Ioas, Iommufd
from dmaproof.vfio.space import ioas_of

Cause = Literal["memory-decode", "reset", "d3hot", "low-power"]
CAUSES: tuple[Cause, ...] = ("memory-decode", "reset", "d3hot", "low-power")
_ELSEWHERE = 2 * TARGET
_PATTERN = b"\xa5\x5a\xc3\x3c\x0f\xf0\x96\x69"


@dataclass(frozen=True, slots=True)
class Revoked:
    """``before``: DMA through the dma-buf worked. ``mapping``: what mapping it elsewhere said while it was revoked
    (None for a reset, which is over when its ioctl returns). ``arrived``: whether a DMA of that time is seen on the
    target once its memory is back; ``after``: whether a read by the old mapping works then. Neither may be. ``again``:
    DMA after unmapping and mapping anew."""

    before: PeerDma
    mapping: Answer | None
    arrived: bool
    after: bool
    unmapped_nbytes: int
    again: PeerDma


def revoke(source: str, target: str, cause: Cause, writable: bool) -> Revoked:
    """edu ``source`` uses BAR0 of ``target``, which ``cause`` takes away and gives back. Two DMA faults are due: one
    while it is gone, one once it is back, by the mapping that is dead."""
    with engine(source, "iommufd", (target,)) as one, exported_to(one) as exported:
        peer, ioas = one.others[0], ioas_of(one.space)
        off, on = _switches(peer, cause)
        before = try_peer(one, writable)
        off()
        mapping = None if cause == "reset" else _elsewhere(ioas, exported)
        _go_blind(one, writable)
        on()
        arrived, after = _arrived(peer), reads(one)
        unmapped = ioas.unmap(TARGET, exported.nbytes)
        ioas.map_file(exported.fd, exported.nbytes, TARGET)
        return Revoked(before, mapping, arrived, after, unmapped, try_peer(one, writable))


def _switches(peer: Device, cause: Cause) -> tuple[Callable[[], object], Callable[[], object]]:
    """What takes the memory away, and what gives it back. Raises Unsupported."""
    if cause == "memory-decode":
        return lambda: command.set_memory_decode(peer, False), lambda: command.set_memory_decode(peer, True)
    if cause == "reset":
        if not peer.resettable:
            raise Unsupported(f"{peer.bdf} has no reset method that works")
        return peer.reset, lambda: None
    if cause == "d3hot":
        if command.power_management(peer) is None:
            raise Unsupported(f"{peer.bdf} has no power management capability: it has no D3hot")
        return lambda: command.set_power_state(peer, "D3hot"), lambda: command.set_power_state(peer, "D0")
    if not peer.offers(Feature.LOW_POWER_ENTRY, setting=True):
        raise Unsupported(f"VFIO does not offer low power for {peer.bdf}")
    entry, exit_ = Feature.LOW_POWER_ENTRY, Feature.LOW_POWER_EXIT
    return lambda: peer.feature(entry, setting=True), lambda: peer.feature(exit_, setting=True)


def _elsewhere(ioas: Ioas, exported: DmaBuf) -> Answer:
    answer = ask("map while revoked", lambda: ioas.map_file(exported.fd, exported.nbytes, _ELSEWHERE))
    if answer.error is None:
        ioas.unmap(_ELSEWHERE, exported.nbytes)
    return answer


def _arrived(peer: Device) -> bool:
    return peer.read(peer.region(0), SCRATCH, len(_PATTERN)) == _PATTERN


def _go_blind(one: Engine, writable: bool) -> None:
    """DMA to what cannot be looked at now: what came of a write shows when it is back."""
    if writable:
        one.write(TARGET + SCRATCH, _PATTERN)
    else:
        one.edu.from_memory(TARGET, IDENTITY_NBYTES)


@dataclass(frozen=True, slots=True)
class Closed:
    """The exporter closed its device. ``mapping``: what mapping the dma-buf, still open, said then; ``arrived``:
    whether a DMA by the old mapping was seen by the device when opened anew; ``again``: what mapping the old dma-buf
    says after that (it must stay dead); ``anew``: DMA through a fresh export."""

    before: PeerDma
    mapping: Answer
    arrived: bool
    again: Answer
    anew: PeerDma


def close(source: str, target: str, writable: bool) -> Closed:
    """The device of ``target`` is closed and opened again while edu ``source`` keeps its mapping of BAR0. One DMA
    fault is due, while it is closed."""
    with bound((source, target)), on_bound(source, "iommufd") as one, Iommufd() as own:
        ioas = ioas_of(one.space)
        with BoundDevice(target, own) as first:
            offered(first)
            exported = dmabuf.export(first, 0)
            ioas.map_file(exported.fd, exported.nbytes, TARGET)
            before = try_peer(replace(one, others=(first,)), writable)
        with exported:
            mapping = _elsewhere(ioas, exported)
            _go_blind(one, writable)
            with BoundDevice(target, own) as second:
                arrived, again = _arrived(second), _elsewhere(ioas, exported)
                ioas.unmap(TARGET, exported.nbytes)
                with dmabuf.export(second, 0) as fresh:
                    ioas.map_file(fresh.fd, fresh.nbytes, TARGET)
                    anew = try_peer(replace(one, others=(second,)), writable)
        return Closed(before, mapping, arrived, again, anew)
