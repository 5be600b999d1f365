"""One machine: its parts put together, and what becomes of a transfer or a page fault on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dmaproof.rig.hardware import Gpu
from dmaproof.rig.model import HOST as HOST_NAME
from dmaproof.rig.model import Addressing, Node, Path
from dmaproof.virtual.machine import bus, dpc, paging, trouble, work
from dmaproof.virtual.machine.fabric import Fabric
from dmaproof.virtual.machine.fault_reports import FaultReporter, reporter
from dmaproof.virtual.machine.gpu import GpuModel
from dmaproof.virtual.machine.hung import Blocked
from dmaproof.virtual.machine.iommu import Domain, Iommu
from dmaproof.virtual.machine.kmsg import KernelLog
from dmaproof.virtual.machine.nvrm import Nvrm, Process
from dmaproof.virtual.machine.peermap import PeerMap
from dmaproof.virtual.wire import (
    HOST,
    Dma,
    DmaOutcome,
    FaultOutcome,
    GpuEvent,
    Inquiry,
    Kernel,
    PageFault,
    Presence,
    Vitals,
)

MEMORY = range(0x1_0000_0000, 0x80_0000_0000)
"""Bus addresses of the node's own memory above 4 GiB, where drivers' buffers are."""
_COHERENT_BASE = 0x4000_0000_0000
_COHERENT_STRIDE = 0x100_0000_0000


@dataclass(slots=True)
class Machine:
    """All state of one node. Every method is called with the monotonic time; nothing here waits or reads a clock.

    ``addressing`` is what the driver brought about. ``blocked`` are threads in state D, by client, or by BDF for the
    thread that serves a GPU's faults. ``heap``: how programs' allocators get memory from the kernel.
    """

    node: Node
    log: KernelLog
    fabric: Fabric
    iommu: Iommu
    gpus: dict[str, GpuModel]
    nvrm: Nvrm
    peermap: PeerMap
    report: FaultReporter
    events: list[GpuEvent]
    addressing: Addressing
    clients: dict[int, Process] = field(default_factory=dict)
    blocked: dict[int | str, Blocked] = field(default_factory=dict)
    heap: Literal["private", "shared"] = "private"
    _paths: dict[tuple[str, str], Path] = field(default_factory=dict)

    def connect(self, client: int, process: Process) -> None:
        self.clients[client] = process

    def dma(self, client: int, request: Dma, now_s: float) -> DmaOutcome:
        """What becomes of one transfer: first what the GPUs make of it, then the way it takes. ValueError for a path
        that is not declared."""
        ended = work.admit(self, client, request, now_s)
        return ended or work.over_nvlink(self, request, bus.transfer(self, client, request, now_s))

    def fault(self, client: int, request: PageFault, now_s: float) -> FaultOutcome:
        return paging.serve(self, client, request, now_s)

    def kernel(self, client: int, request: Kernel) -> None:
        """A kernel of ``client`` begins, ends, or gives itself up."""
        gpu = self.gpus[request.gpu]
        gpu.users.setdefault(client)
        if request.event == "traps":
            self.nvrm.trapped(gpu, self.clients[client])
        else:
            gpu.running[client] += 1 if request.event == "begins" else -1

    @property
    def memory(self) -> range:
        """Bus addresses of the node's own memory."""
        return MEMORY

    def checkup(self, gpu: str) -> Vitals:
        """What the driver knows of ``gpu``."""
        model = self.gpus[gpu]
        link = model.link.trained or model.rig.pcie
        return Vitals(
            recovery_action=model.health.recovery_action,
            remap_pending=model.health.remap_pending,
            remap_failed=model.health.remap_failed,
            rows_remapped=model.health.rows_remapped,
            ecc_uncorrectable=model.health.ecc_uncorrectable,
            pcie_replays=model.link.replays,
            generation=link.generation if link else None,
            width=link.width if link else None,
            nvlinks_down=tuple(sorted(model.nvlinks.down)),
            nvlink_errors={str(link): dict(counts) for link, counts in model.nvlinks.errors.items()},
        )

    def inquire(self, client: int, request: Inquiry) -> Presence:
        gpu = self.gpus[request.gpu]
        if gpu.lost or not request.context:
            return Presence(state="lost" if gpu.lost else "present")
        code = trouble.context(self, client, gpu)
        return Presence(state="failed" if code else "present", code=code)

    def users(self, gpu: GpuModel) -> list[Process]:
        """The processes with channels on ``gpu``."""
        return [self.clients[client] for client in gpu.users]

    @property
    def effective(self) -> Node:
        """The node as it came up."""
        return self.node.model_copy(update={"addressing": self.addressing})

    def disconnect(self, client: int) -> None:
        """The process is gone: its channels are torn down, and faults that were never served are cancelled."""
        self.blocked.pop(client, None)
        for gpu in self.gpus.values():
            gpu.users.pop(client, None)
            if gpu.running.pop(client, 0) and not gpu.lost:
                self.nvrm.killed(gpu, self.clients[client])
            gpu.waiting = [one for one in gpu.waiting if one.client != client]
            cancelled = [one for one in gpu.faults.replaying if one.client == client]
            gpu.faults.replaying = [one for one in gpu.faults.replaying if one.client != client]
            for one in cancelled[:1]:  # the first fault tears down the channel, and the others with it
                if not one.undone:  # its pages are there as often as not: nothing is left to cancel
                    self.nvrm.mmu_fault(gpu, self.clients[client], one.fault.va, "FAULT_PTE", one.fault.access)
        self.clients.pop(client, None)

    def path(self, source: str, target: str) -> Path:
        """The declared path between two places. ValueError where the rig declares none with rates."""
        if (source, target) not in self._paths:
            self._paths[source, target] = self._declared(source, target)
        return self._paths[source, target]

    def _declared(self, source: str, target: str) -> Path:
        names = [HOST_NAME if place == HOST else self.gpus[place].rig.name for place in (source, target)]
        path = self.node.path_between(*names)
        if path is None or path.bandwidth_GBps is None or path.latency_ns is None:
            raise ValueError(f"node {self.node.name} declares no path with rate and latency from {' to '.join(names)}")
        return path

    def carries(self, gpu: GpuModel, client: int) -> bool:
        """One transfer over ``gpu``'s link. The first that does not get through is how the driver learns of a loss."""
        if not gpu.lost and not gpu.link.carry():
            gpu.lost = True
            gpu.waiting.clear()
            gpu.faults.replaying.clear()
            self.fabric.remove(gpu.bdf)
            dpc.contain(self, gpu)
            self.nvrm.fallen_off(gpu, self.clients[client])
        return not gpu.lost

    @property
    def busy(self) -> bool:
        """Whether something goes on by itself: ``tick`` is to be called."""
        return bool(self.blocked) or any(
            gpu.waiting or gpu.faults.replaying or gpu.bottom_half.since_s is not None for gpu in self.gpus.values()
        )

    def tick(self, now_s: float) -> None:
        """Lets retries and replays happen as often as time has passed."""
        for blocked in list(self.blocked.values()):
            blocked.report(self.log, now_s)
        due: list[tuple[float, str, int]] = []
        for gpu in self.gpus.values():
            gpu.faults.replay(now_s)
            for one in gpu.waiting:
                while one.since_s + bus.HANDSHAKE_PERIOD_S <= now_s:
                    one.since_s += bus.HANDSHAKE_PERIOD_S
                    due.append((one.since_s, gpu.bdf, one.address))
        for when_s, requester, address in sorted(due):  # all engines share the IOMMU, and its log
            bus.access(self, requester, address, "write", when_s)


def build(node: Node, log: KernelLog) -> Machine:
    """A healthy machine as the rig declares ``node``."""
    ordered = sorted(node.gpus, key=lambda gpu: gpu.bdf)  # minors and indices follow the bus, not the rig file
    gpus = {one.bdf: GpuModel(one, minor, _coherent(node, one, minor)) for minor, one in enumerate(ordered)}
    fabric = Fabric.of(node, MEMORY)
    stage2 = [MEMORY, *(gpu.coherent for gpu in gpus.values() if gpu.coherent is not None)]
    translated = node.iommu.domain == "translated"
    iommu = Iommu({bdf: Domain() for bdf in gpus} if translated else {}, stage2)
    events: list[GpuEvent] = []
    nvrm, peermap = Nvrm(log, events.append), PeerMap(iommu, fabric, log)
    return Machine(node, log, fabric, iommu, gpus, nvrm, peermap, reporter(node, log), events, node.addressing)


def _coherent(node: Node, gpu: Gpu, minor: int) -> range | None:
    """On ATS nodes GPU memory has system addresses, and is a NUMA node of its own."""
    if node.addressing != "ats" or gpu.memory_nbytes is None:
        return None
    base = _COHERENT_BASE + minor * _COHERENT_STRIDE
    return range(base, base + gpu.memory_nbytes)
