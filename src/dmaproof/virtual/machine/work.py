"""What a GPU itself makes of the work it is given, before any of it reaches the bus; and what its NVLinks do to it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dmaproof.virtual.machine import trouble
from dmaproof.virtual.machine.gpu import GpuModel
from dmaproof.virtual.machine.trouble import Work
from dmaproof.virtual.machine.uvm import Access
from dmaproof.virtual.wire import HOST, Dma, DmaOutcome

if TYPE_CHECKING:
    from dmaproof.virtual.machine.machine import Machine


def admit(machine: Machine, client: int, request: Dma, now_s: float) -> DmaOutcome | None:
    """How ``request`` ends before it reaches the bus, or None where it goes on."""
    requester = machine.gpus[request.requester]
    ends = _ends(machine, request)
    kind = machine.path(request.source, request.target).kind
    requester_there = machine.carries(requester, client)  # its doorbell is a PCIe write, whatever the data goes over
    others = [gpu for gpu in ends if gpu is not requester]
    if not requester_there or any(gpu.lost or (kind == "pcie" and not machine.carries(gpu, client)) for gpu in others):
        return DmaOutcome(effect="lost")
    access: Access = "write" if request.requester == request.source else "read"
    ended = trouble.met(machine, client, requester, Work(request.engine, request.nbytes, request.va, access), now_s)
    if ended is not None:
        return DmaOutcome(effect=ended.effect, code=ended.code)
    failures = [trouble.memory(machine, client, gpu) for gpu in others]
    failures += [trouble.nvlink(machine, client, gpu) for gpu in ends] if kind == "nvlink" else []
    failed = next(filter(None, failures), None)
    if failed is not None:
        return DmaOutcome(effect="failed", code=failed)
    if not requester.engines[request.engine].fetching:
        return DmaOutcome(effect="never")
    return None


def over_nvlink(machine: Machine, request: Dma, outcome: DmaOutcome) -> DmaOutcome:
    """``outcome`` at the rate of the links that are up, where ``request`` takes them; errors on the way are counted."""
    if machine.path(request.source, request.target).kind != "nvlink" or outcome.effect != "lands":
        return outcome
    gpus = _ends(machine, request)
    for gpu in gpus:
        gpu.nvlinks.carry(request.nbytes)
    share = min(gpu.nvlinks.share_up(gpu.rig.nvlinks) if gpu.rig.nvlinks else 1.0 for gpu in gpus)
    return replace(outcome, bandwidth_GBps=outcome.bandwidth_GBps * share)


def _ends(machine: Machine, request: Dma) -> list[GpuModel]:
    return [machine.gpus[place] for place in dict.fromkeys((request.source, request.target)) if place != HOST]
