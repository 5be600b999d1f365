"""What ends work on a sick GPU, before it is done: each cause is a state of the model, met by the work that comes upon
it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dmaproof.virtual.machine.cpu import is_arm
from dmaproof.virtual.machine.gpu import GpuModel
from dmaproof.virtual.machine.hung import Blocked
from dmaproof.virtual.machine.nvrm import Process

if TYPE_CHECKING:
    from dmaproof.virtual.machine.machine import Machine
    from dmaproof.virtual.machine.uvm import Access


@dataclass(frozen=True, slots=True)
class Work:
    """``nbytes`` at ``va``, moved or touched; ``engine`` is None for what the kernel driver does by itself."""

    engine: Literal["ce", "sm"] | None
    nbytes: int
    va: int
    access: Access


@dataclass(frozen=True, slots=True)
class Ended:
    """How work ends; ``code`` is a CUresult's name."""

    effect: Literal["failed", "stuck", "killed"]
    code: str = ""


def met(machine: Machine, client: int, gpu: GpuModel, work: Work, now_s: float) -> Ended | None:
    """What ``client``'s work on ``gpu`` comes upon; None where it goes on."""
    gpu.users.setdefault(client)
    process = machine.clients[client]
    if gpu.lock_held:
        machine.blocked[client] = Blocked(process.pid, process.name, now_s)
        return Ended("stuck")
    if gpu.bug is not None:
        gpu.bug.report(machine.log, is_arm(machine.node), process.pid, process.name)
        return Ended("killed")
    refused = gpu.health.refuses or _silent_firmware(machine, gpu, process) or memory(machine, client, gpu)
    if refused:
        return Ended("failed", refused)
    if work.engine == "sm" and gpu.wild is not None and work.nbytes >= gpu.wild.from_nbytes:
        machine.nvrm.mmu_fault(gpu, process, gpu.wild.va, "FAULT_PDE", work.access)
        return Ended("failed", "ILLEGAL_ADDRESS")
    if work.engine is not None and gpu.neighbour is not None and gpu.neighbour.crashes(work.nbytes):
        machine.nvrm.engine_reset(gpu, Process(gpu.neighbour.pid, gpu.neighbour.name), machine.users(gpu))
        return Ended("failed", "LAUNCH_FAILED")
    return None


def context(machine: Machine, client: int, gpu: GpuModel) -> str:
    """The CUresult that a process gets instead of a context on ``gpu``; "" where it gets one."""
    gpu.users.setdefault(client)
    return gpu.health.refuses or _silent_firmware(machine, gpu, machine.clients[client])


def memory(machine: Machine, client: int, gpu: GpuModel) -> str:
    """An access to ``gpu``'s memory; the CUresult of the error that it meets, or ""."""
    cell = gpu.bad_cell
    if cell is None:
        return gpu.health.refuses
    cell.accesses_left -= 1
    if cell.accesses_left >= 0:
        return ""
    gpu.bad_cell = None
    process = machine.clients[client]
    if cell.contained:
        machine.nvrm.contained(gpu, process)
        return "CONTAINED"
    machine.nvrm.uncontained(gpu, process, machine.users(gpu), cell)
    gpu.health.refuses = "ECC_UNCORRECTABLE"  # until the GPU is reset
    return gpu.health.refuses


def nvlink(machine: Machine, client: int, gpu: GpuModel) -> str:
    """A transfer over ``gpu``'s NVLinks; the CUresult of the error that it meets, or ""."""
    links = gpu.nvlinks
    if links.failed:
        return "NVLINK_UNCORRECTABLE"
    if links.dying is None:
        return ""
    links.failed = True
    links.retrain([links.dying])
    gpu.users.setdefault(client)
    machine.nvrm.nvlink_fatal(gpu, machine.users(gpu), links.dying)
    return "NVLINK_UNCORRECTABLE"


def _silent_firmware(machine: Machine, gpu: GpuModel, process: Process) -> str:
    if gpu.gsp.answer():
        return ""
    machine.nvrm.gsp_timeout(gpu, process, sequence=4321)
    gpu.health.refuses = "UNKNOWN"
    return gpu.health.refuses
