"""How UVM serves a GPU's page faults: pages move toward where they are wanted, are mapped, and the access replays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmaproof.virtual.machine import bus, trouble
from dmaproof.virtual.machine.gpu import GpuModel
from dmaproof.virtual.machine.hung import BOTTOM_HALF, KTHREADD, Blocked
from dmaproof.virtual.machine.trouble import Work
from dmaproof.virtual.machine.uvm import Replay, blocks_of, pages_of, thread_comm, thread_pid
from dmaproof.virtual.wire import HOST, FaultOutcome, PageFault

if TYPE_CHECKING:
    from dmaproof.virtual.machine.machine import Machine


def serve(machine: Machine, client: int, request: PageFault, now_s: float) -> FaultOutcome:
    """What becomes of one fault."""
    gpu = machine.gpus[request.gpu]
    if not machine.carries(gpu, client):  # faults are fetched, and pages moved, over the link
        return FaultOutcome(effect="lost")
    ended = trouble.met(machine, client, gpu, _work(request), now_s)
    if ended is not None:
        return FaultOutcome(effect=ended.effect, code=ended.code)
    kind = _refused(machine, request)
    if kind is not None:
        machine.nvrm.mmu_fault(gpu, machine.clients[client], request.va, kind, request.access)
        return FaultOutcome(effect="fatal")
    way = bus.rate(machine, request.gpu if request.toward == HOST else HOST, request.toward)
    if request.access != "prefetch":  # a prefetch is a call to the driver: nothing faulted
        if not _served(machine, gpu, now_s):
            return FaultOutcome(effect="unserved")
        gpu.faults.took(request.access, blocks_of(request.va, request.nbytes))
        if gpu.faults.contested or not _reachable(machine, request):
            gpu.faults.replaying.append(Replay(client, request, now_s, undone=gpu.faults.contested))
            return FaultOutcome(effect="replaying")
        if request.toward != HOST:  # else the pages are mapped where they are; nor does a prefetch count here
            gpu.faults.pages_in += pages_of(request.nbytes)
    return FaultOutcome(effect="served", duration_ns=way.latency_ns + request.nbytes / way.bandwidth_GBps)


def _served(machine: Machine, gpu: GpuModel, now_s: float) -> bool:
    """Whether the kernel thread looks at a fault. One that sleeps on a lock is a blocked thread like any other."""
    thread = gpu.bottom_half
    if thread.serves(now_s):
        return True
    if thread.state == "D" and gpu.bdf not in machine.blocked:
        machine.blocked[gpu.bdf] = Blocked(thread_pid(gpu.minor), thread_comm(gpu.minor), now_s, BOTTOM_HALF, KTHREADD)
    return False


def _work(request: PageFault) -> Work:
    by_driver = request.access == "prefetch"
    return Work(None if by_driver else "sm", request.nbytes, request.va, request.access)


def _refused(machine: Machine, request: PageFault) -> str | None:
    """The kind of a fault that UVM cannot serve: nothing is mapped there, or, under HMM, an atomic on pages that the
    process shares: they cannot be the GPU's alone (hmm_block_atomic_fault_locked of kernel-open/nvidia-uvm/uvm_hmm.c).
    """
    if request.space == "unmapped" or (request.space == "system" and machine.addressing == "none"):
        return "FAULT_PDE"
    shared = request.mapping == "shared" or machine.heap == "shared"
    if request.space == "system" and machine.addressing == "hmm" and request.access == "atomic" and shared:
        return "FAULT_PTE"
    return None


def _reachable(machine: Machine, request: PageFault) -> bool:
    """Whether the GPU finds the page after service: with ATS, malloc memory is translated on every first access."""
    if request.space != "system" or machine.addressing != "ats":
        return True
    memory = machine.memory if request.toward == HOST else machine.gpus[request.toward].coherent
    return memory is not None and machine.iommu.answers_ats(memory.start)
