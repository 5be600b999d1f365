"""The way of a transfer: which domain it is translated in, who claims it, and what becomes of it there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from dmaproof.virtual.machine import acs, aer
from dmaproof.virtual.machine.fabric import Landing
from dmaproof.virtual.machine.gpu import MAILBOX_OFFSET, GpuModel, Handshake
from dmaproof.virtual.machine.iommu import PAGE_NBYTES, Access, Fault
from dmaproof.virtual.machine.peermap import UNMAPPED
from dmaproof.virtual.wire import HOST, Dma, DmaOutcome

if TYPE_CHECKING:
    from dmaproof.virtual.machine.machine import Machine

Effect = Literal["lands", "dropped", "mirrored", "never", "failed"]
HANDSHAKE_PERIOD_S = 0.002
"""How often an engine that waits for a peer's mailbox writes there again."""
REDIRECTED_SHARE = 0.82
"""What peer traffic keeps of a switch's rate when it is sent up to the root complex and back: RTX A6000 at gen4, 21.6
of 26.3 GB/s."""
_REDIRECTED_EXCESS = 1.3
_FAULTS = 32
"""How many pages of one refused transfer are still reported: the queue between IOMMU and kernel is short."""
_PACKET_NBYTES = 256
_MESSAGES = 16
"""How many error messages of one transfer reach the kernel: a register holds one error of a kind until it is read."""


class Rate(NamedTuple):
    """What a transfer can have of a path now."""

    bandwidth_GBps: float
    latency_ns: float


def transfer(machine: Machine, client: int, request: Dma, now_s: float) -> DmaOutcome:
    """What becomes of a transfer whose GPUs are there and work."""
    over_bus = machine.path(request.source, request.target).kind == "pcie"
    effect: Effect = _over_bus(machine, client, request, now_s) if over_bus else "lands"
    if effect == "never":
        return DmaOutcome(effect="never")
    if effect == "failed":
        return DmaOutcome(effect="failed", code="MAP_FAILED")
    _wear(machine, request, now_s, over_bus)
    return DmaOutcome(effect=effect, **rate(machine, request.source, request.target)._asdict())


def rate(machine: Machine, source: str, target: str) -> Rate:
    """The declared path's rate and latency, less what links and the way taken lose of them. ValueError for a path that
    is not declared with both."""
    path = machine.path(source, target)
    bandwidth, latency = path.bandwidth_GBps or 0.0, path.latency_ns or 0.0
    if path.kind != "pcie":
        return Rate(bandwidth, latency)
    gpus = [machine.gpus[place] for place in (source, target) if place != HOST]
    bandwidth *= min(gpu.link.share(gpu.rig.pcie) for gpu in gpus)
    if len(gpus) < 2 or acs.goes_straight(machine.node, gpus[0].rig, gpus[1].rig):
        return Rate(bandwidth, latency)
    bandwidth *= machine.fabric.root_complex.peer_share
    if frozenset((source, target)) in machine.fabric.straight:
        return Rate(bandwidth * REDIRECTED_SHARE, latency * _REDIRECTED_EXCESS)
    return Rate(bandwidth, latency)


def _over_bus(machine: Machine, client: int, request: Dma, now_s: float) -> Effect:
    """The far side of a PCIe transfer is reached through the requester's domain, peers only after a handshake."""
    requester = request.requester
    far = request.target if requester == request.source else request.source
    if far == HOST:
        return _data(machine, request, machine.peermap.memory_window(requester), HOST, now_s)
    window = machine.peermap.peer_window(requester, machine.gpus[far].rig)
    if window is UNMAPPED:
        return "failed"
    if access(machine, requester, window.mailbox, "write", now_s) != Landing(far, 0, MAILBOX_OFFSET):
        machine.gpus[requester].waiting.append(Handshake(client, window.mailbox, now_s))
        return "never"
    return _data(machine, request, window.memory, far, now_s)


def _data(machine: Machine, request: Dma, address: int, far: str, now_s: float) -> Effect:
    """Posted writes that lead elsewhere are gone without a word to the writer; reads get all ones."""
    requester = request.requester
    verb: Access = "write" if requester == request.source else "read"
    landing = access(machine, requester, address, verb, now_s)
    if landing is None:
        for page in range(1, min(_FAULTS, -(-request.nbytes // PAGE_NBYTES))):
            access(machine, requester, address + page * PAGE_NBYTES, verb, now_s)
        return "dropped"
    if landing.place == HOST != far:
        return "mirrored"
    swallowed = verb == "write" and (requester, far) in machine.fabric.root_complex.swallows
    return "dropped" if landing.place != far or swallowed else "lands"


def access(machine: Machine, requester: str, address: int, verb: Access, now_s: float) -> Landing | None:
    """Where an access of ``requester`` at ``address`` leads; a refused one is reported as the IOMMU does. What a switch
    hands straight on never comes to the IOMMU."""
    near = machine.fabric.claim(address)
    peer = machine.gpus.get(near.place) if near is not None else None
    if peer is not None and acs.goes_straight(machine.node, machine.gpus[requester].rig, peer.rig):
        return near
    translated = machine.iommu.translate(requester, address, verb)
    if isinstance(translated, Fault):
        machine.report(translated, now_s)
        return None
    return machine.fabric.claim(translated)


def _wear(machine: Machine, request: Dma, now_s: float, over_bus: bool) -> None:
    """Marginal links make errors of what goes over them: of the data, or of the doorbell alone."""
    ends = (request.source, request.target) if over_bus else (request.requester,)
    for gpu in (machine.gpus[place] for place in ends if place != HOST):
        if gpu.link.marginal is not None:
            nbytes = request.nbytes if over_bus else _PACKET_NBYTES
            _replay(machine, gpu, nbytes, request.target == gpu.bdf, now_s)


def _replay(machine: Machine, gpu: GpuModel, nbytes: int, downstream: bool, now_s: float) -> None:
    """The receiver of a damaged packet reports it, the transmitter a replay timer that ran out."""
    marginal = gpu.link.marginal
    assert marginal is not None  # noqa: S101 - asked by the caller
    damaged = max(1, nbytes // _PACKET_NBYTES // marginal.every)
    receiver, transmitter = (gpu.bdf, gpu.rig.port) if downstream else (gpu.rig.port, gpu.bdf)
    numbers = range(gpu.link.replays, gpu.link.replays + min(damaged, _MESSAGES))
    errors = [marginal.errors[number % len(marginal.errors)] for number in numbers]
    seen = [((transmitter if error in aer.TRANSMITTER else receiver) or gpu.bdf, error) for error in errors]
    aer.correctable(machine, seen, now_s)
    gpu.link.replays += damaged
