"""The way of a transfer: which domain it is translated in, who claims it, and what becomes of it there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from dmaproof.virtual.machine.fabric import Landing
from dmaproof.virtual.machine.gpu import MAILBOX_OFFSET, Handshake
from dmaproof.virtual.machine.iommu import Access, Fault
from dmaproof.virtual.wire import HOST, Dma, DmaOutcome

if TYPE_CHECKING:
    from dmaproof.virtual.machine.machine import Machine

Effect = Literal["lands", "dropped", "mirrored", "never"]
HANDSHAKE_PERIOD_S = 0.002
"""How often an engine that waits for a peer's mailbox writes there again."""


def transfer(machine: Machine, client: int, request: Dma, now_s: float) -> DmaOutcome:
    """What becomes of a transfer whose GPUs are there and work; rates are the declared path's."""
    path = machine.path(request.source, request.target)
    effect: Effect = _over_bus(machine, client, request, now_s) if path.kind == "pcie" else "lands"
    if effect == "never":
        return DmaOutcome(effect="never")
    return DmaOutcome(effect=effect, bandwidth_GBps=path.bandwidth_GBps or 0.0, latency_ns=path.latency_ns or 0.0)


def _over_bus(machine: Machine, client: int, request: Dma, now_s: float) -> Effect:
    """The far side of a PCIe transfer is reached through the requester's domain, peers only after a handshake."""
    requester = request.requester
    far = request.target if requester == request.source else request.source
    verb: Access = "write" if requester == request.source else "read"
    if far == HOST:
        return _data(machine, requester, machine.peermap.memory_window(requester), verb, now_s, HOST)
    window = machine.peermap.peer_window(requester, machine.gpus[far].rig)
    if access(machine, requester, window.mailbox, "write", now_s) != Landing(far, 0, MAILBOX_OFFSET):
        machine.gpus[requester].waiting.append(Handshake(client, window.mailbox, now_s))
        return "never"
    return _data(machine, requester, window.memory, verb, now_s, far)


def _data(machine: Machine, requester: str, address: int, verb: Access, now_s: float, far: str) -> Effect:
    """Posted writes that lead elsewhere are gone without a word to the writer; reads get all ones."""
    landing = access(machine, requester, address, verb, now_s)
    return "lands" if landing is not None and landing.place == far else "dropped"


def access(machine: Machine, requester: str, address: int, verb: Access, now_s: float) -> Landing | None:
    """Where an access of ``requester`` at ``address`` leads; a refused one is reported as the IOMMU does."""
    translated = machine.iommu.translate(requester, address, verb)
    if isinstance(translated, Fault):
        machine.report(translated, now_s)
        return None
    return machine.fabric.claim(translated)
