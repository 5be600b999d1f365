"""What a GPU itself makes of the work it is given, before any of it reaches the bus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmaproof.virtual.wire import HOST, Dma, DmaOutcome

if TYPE_CHECKING:
    from dmaproof.virtual.machine.machine import Machine


def admit(machine: Machine, client: int, request: Dma) -> DmaOutcome | None:
    """How ``request`` ends before it reaches the bus, or None where it goes on."""
    requester = machine.gpus[request.requester]
    ends = [machine.gpus[place] for place in (request.source, request.target) if place != HOST]
    over_bus = machine.path(request.source, request.target).kind == "pcie"
    requester_there = machine.carries(requester, client)  # its doorbell is a PCIe write, whatever the data goes over
    others = [gpu for gpu in ends if gpu is not requester]
    if not requester_there or any(gpu.lost or (over_bus and not machine.carries(gpu, client)) for gpu in others):
        return DmaOutcome(effect="lost")
    if not requester.engines[request.engine].fetching:
        return DmaOutcome(effect="never")
    return None
