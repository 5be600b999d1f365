"""How UVM serves a GPU's page faults: pages move toward where they are wanted, are mapped, and the access replays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmaproof.rig.model import Path
from dmaproof.virtual.machine.gpu import GpuModel
from dmaproof.virtual.machine.uvm import PAGE_NBYTES, Replay
from dmaproof.virtual.wire import HOST, FaultOutcome, PageFault

if TYPE_CHECKING:
    from dmaproof.virtual.machine.machine import Machine


def serve(machine: Machine, client: int, request: PageFault, now_s: float) -> FaultOutcome:
    """What becomes of one fault."""
    gpu = machine.gpus[request.gpu]
    if not machine.carries(gpu, client):  # faults are fetched, and pages moved, over the link
        return FaultOutcome(effect="lost")
    if request.space == "system" and machine.node.addressing == "none":
        machine.nvrm.mmu_fault(gpu, machine.clients[client], request.va, "FAULT_PDE", request.access)
        return FaultOutcome(effect="fatal")
    path = machine.path(request.gpu if request.toward == HOST else HOST, request.toward)
    if request.access != "prefetch":  # a prefetch is a call to the driver: nothing faulted
        gpu.faults.took(request.access)
        if not _reachable(machine, request):
            gpu.faults.replaying.append(Replay(client, request, now_s))
            return FaultOutcome(effect="replaying")
    _count_pages(gpu, request)
    return FaultOutcome(effect="served", duration_ns=_duration_ns(path, request.nbytes))


def _reachable(machine: Machine, request: PageFault) -> bool:
    """Whether the GPU finds the page after service: with ATS, malloc memory is translated on every first access."""
    if request.space != "system" or machine.node.addressing != "ats":
        return True
    memory = machine.memory if request.toward == HOST else machine.gpus[request.toward].coherent
    return memory is not None and machine.iommu.answers_ats(memory.start)


def _count_pages(gpu: GpuModel, request: PageFault) -> None:
    npages = -(-request.nbytes // PAGE_NBYTES)
    if request.toward == HOST:
        gpu.faults.pages_out += npages
    else:
        gpu.faults.pages_in += npages


def _duration_ns(path: Path, nbytes: int) -> float:
    assert path.latency_ns is not None  # noqa: S101 - Machine.path gives none without
    assert path.bandwidth_GBps is not None  # noqa: S101
    return path.latency_ns + nbytes / path.bandwidth_GBps
