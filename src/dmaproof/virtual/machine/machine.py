"""One machine: its parts put together, and what becomes of a transfer or a page fault on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dmaproof.rig.model import HOST as HOST_NAME
from dmaproof.rig.model import Gpu, Node, Path
from dmaproof.virtual.machine.fabric import Aperture, Fabric, Landing
from dmaproof.virtual.machine.gpu import MAILBOX_OFFSET, GpuModel, Handshake
from dmaproof.virtual.machine.iommu import Access, Domain, Fault, Iommu
from dmaproof.virtual.machine.kmsg import KernelLog
from dmaproof.virtual.machine.nvrm import Nvrm, Process
from dmaproof.virtual.machine.uvm import PAGE_NBYTES, Replay
from dmaproof.virtual.machine.vtd import FaultLog, FaultReporter
from dmaproof.virtual.wire import HOST, Dma, DmaOutcome, FaultOutcome, GpuEvent, PageFault, Presence

Effect = Literal["lands", "dropped", "mirrored", "never", "lost"]
MEMORY = range(0x1_0000_0000, 0x80_0000_0000)
"""Bus addresses of the node's own memory above 4 GiB, where drivers' buffers are."""
_COHERENT_BASE = 0x4000_0000_0000
_COHERENT_STRIDE = 0x100_0000_0000
HANDSHAKE_PERIOD_S = 0.002
"""How often an engine that waits for a peer's mailbox writes there again."""


@dataclass(slots=True)
class Machine:
    """All state of one node. Every method is called with the monotonic time; nothing here waits or reads a clock."""

    node: Node
    log: KernelLog
    fabric: Fabric
    iommu: Iommu
    gpus: dict[str, GpuModel]
    nvrm: Nvrm
    report: FaultReporter
    events: list[GpuEvent]
    clients: dict[int, Process] = field(default_factory=dict)

    def connect(self, client: int, process: Process) -> None:
        self.clients[client] = process

    def dma(self, client: int, request: Dma, now_s: float) -> DmaOutcome:
        """What becomes of one transfer; rates are the declared path's. ValueError for a path that is not declared."""
        requester = self.gpus[request.requester]
        ends = [self.gpus[place] for place in (request.source, request.target) if place != HOST]
        path = self._path(request.source, request.target)
        over_bus = path.kind == "pcie"
        requester_there = self._carries(requester, client)  # its doorbell is a PCIe write, whatever the data goes over
        others = [gpu for gpu in ends if gpu is not requester]
        if not requester_there or any(gpu.lost or (over_bus and not self._carries(gpu, client)) for gpu in others):
            return DmaOutcome(effect="lost")
        if not requester.engines[request.engine].fetching:
            return DmaOutcome(effect="never")
        effect: Effect = self._over_bus(client, request, now_s) if over_bus else "lands"
        if effect == "never":
            return DmaOutcome(effect="never")
        return DmaOutcome(effect=effect, bandwidth_GBps=path.bandwidth_GBps or 0.0, latency_ns=path.latency_ns or 0.0)

    def fault(self, client: int, request: PageFault, now_s: float) -> FaultOutcome:
        """UVM serves a fault: it moves the pages toward where they are wanted, maps them, and replays."""
        gpu = self.gpus[request.gpu]
        if not self._carries(gpu, client):  # faults are fetched, and pages moved, over the link
            return FaultOutcome(effect="lost")
        if request.space == "system" and self.node.addressing == "none":
            self.nvrm.mmu_fault(gpu, self.clients[client], request.va, "FAULT_PDE", request.access)
            return FaultOutcome(effect="fatal")
        path = self._path(request.gpu if request.toward == HOST else HOST, request.toward)
        if request.access != "prefetch":  # a prefetch is a call to the driver: nothing faulted
            gpu.faults.took(request.access)
            if not self._reachable(request):
                gpu.faults.replaying.append(Replay(client, request, now_s))
                return FaultOutcome(effect="replaying")
        _count_pages(gpu, request)
        return FaultOutcome(effect="served", duration_ns=_duration_ns(path, request.nbytes))

    def inquire(self, gpu: str) -> Presence:
        return Presence(state="lost" if self.gpus[gpu].lost else "present")

    def disconnect(self, client: int) -> None:
        """The process is gone: its channels are torn down, and faults that were never served are cancelled."""
        for gpu in self.gpus.values():
            gpu.waiting = [one for one in gpu.waiting if one.client != client]
            cancelled = [one for one in gpu.faults.replaying if one.client == client]
            gpu.faults.replaying = [one for one in gpu.faults.replaying if one.client != client]
            for one in cancelled[:1]:  # the first fault tears down the channel, and the others with it
                self.nvrm.mmu_fault(gpu, self.clients[client], one.fault.va, "FAULT_PTE", one.fault.access)
        self.clients.pop(client, None)

    @property
    def busy(self) -> bool:
        """Whether something goes on by itself: ``tick`` is to be called."""
        return any(gpu.waiting or gpu.faults.replaying for gpu in self.gpus.values())

    def tick(self, now_s: float) -> None:
        """Lets retries and replays happen as often as time has passed."""
        due: list[tuple[float, str, int]] = []
        for gpu in self.gpus.values():
            gpu.faults.replay(now_s)
            for one in gpu.waiting:
                while one.since_s + HANDSHAKE_PERIOD_S <= now_s:
                    one.since_s += HANDSHAKE_PERIOD_S
                    due.append((one.since_s, gpu.bdf, one.address))
        for when_s, requester, address in sorted(due):  # all engines share the IOMMU, and its log
            self._access(requester, address, "write", when_s)

    def _path(self, source: str, target: str) -> Path:
        names = [HOST_NAME if place == HOST else self.gpus[place].rig.name for place in (source, target)]
        path = self.node.path_between(*names)
        if path is None or path.bandwidth_GBps is None or path.latency_ns is None:
            raise ValueError(f"node {self.node.name} declares no path with rate and latency from {' to '.join(names)}")
        return path

    def _carries(self, gpu: GpuModel, client: int) -> bool:
        """One transfer over ``gpu``'s link. The first that does not get through is how the driver learns of a loss."""
        if not gpu.lost and not gpu.link.carry():
            gpu.lost = True
            gpu.waiting.clear()
            gpu.faults.replaying.clear()
            self.fabric.remove(gpu.bdf)
            self.nvrm.fallen_off(gpu, self.clients[client])
        return not gpu.lost

    def _over_bus(self, client: int, request: Dma, now_s: float) -> Effect:
        """The far side of a PCIe transfer is reached through the requester's domain, peers only after a handshake."""
        far = request.target if request.requester == request.source else request.source
        access: Access = "write" if request.requester == request.source else "read"
        if far == HOST:
            return self._data(request.requester, self.nvrm.memory_window(request.requester), access, now_s, HOST)
        window = self.nvrm.peer_window(request.requester, self.gpus[far].rig)
        if self._access(request.requester, window.mailbox, "write", now_s) != Landing(far, 0, MAILBOX_OFFSET):
            self.gpus[request.requester].waiting.append(Handshake(client, window.mailbox, now_s))
            return "never"
        return self._data(request.requester, window.memory, access, now_s, far)

    def _data(self, requester: str, address: int, access: Access, now_s: float, far: str) -> Effect:
        """Posted writes that lead elsewhere are gone without a word to the writer; reads get all ones."""
        landing = self._access(requester, address, access, now_s)
        return "lands" if landing is not None and landing.place == far else "dropped"

    def _access(self, requester: str, address: int, access: Access, now_s: float) -> Landing | None:
        translated = self.iommu.translate(requester, address, access)
        if isinstance(translated, Fault):
            self.report(translated, now_s)
            return None
        return self.fabric.claim(translated)

    def _reachable(self, request: PageFault) -> bool:
        """Whether the GPU finds the page after service: with ATS, malloc memory is translated on every first access."""
        if request.space != "system" or self.node.addressing != "ats":
            return True
        memory = MEMORY if request.toward == HOST else self.gpus[request.toward].coherent
        return memory is not None and self.iommu.answers_ats(memory.start)


def _count_pages(gpu: GpuModel, request: PageFault) -> None:
    npages = -(-request.nbytes // PAGE_NBYTES)
    if request.toward == HOST:
        gpu.faults.pages_out += npages
    else:
        gpu.faults.pages_in += npages


def _duration_ns(path: Path, nbytes: int) -> float:
    assert path.latency_ns is not None  # noqa: S101 - Machine._path gives none without
    assert path.bandwidth_GBps is not None  # noqa: S101
    return path.latency_ns + nbytes / path.bandwidth_GBps


def build(node: Node, log: KernelLog) -> Machine:
    """A healthy machine as the rig declares ``node``."""
    ordered = sorted(node.gpus, key=lambda gpu: gpu.bdf)  # minors and indices follow the bus, not the rig file
    gpus = {one.bdf: GpuModel(one, minor, _coherent(node, one, minor)) for minor, one in enumerate(ordered)}
    bars = [Aperture(gpu.bdf, bar.index, bar.address, bar.nbytes) for gpu in node.gpus for bar in gpu.bars]
    fabric = Fabric([Aperture(HOST, 0, MEMORY.start, len(MEMORY)), *bars])
    stage2 = [MEMORY, *(gpu.coherent for gpu in gpus.values() if gpu.coherent is not None)]
    translated = node.iommu.domain == "translated"
    iommu = Iommu({bdf: Domain() for bdf in gpus} if translated else {}, stage2)
    events: list[GpuEvent] = []
    nvrm = Nvrm(log, iommu, fabric, events.append)
    return Machine(node, log, fabric, iommu, gpus, nvrm, _reporter(node, log), events)


def _reporter(node: Node, log: KernelLog) -> FaultReporter:
    """How this node's IOMMU tells of a refused DMA. Only VT-d's way is modelled, and only its plants refuse any."""
    if node.iommu.family in ("vtd", "none"):
        return FaultLog(log).report

    def unmodelled(fault: Fault, _now_s: float) -> None:
        raise NotImplementedError(f"how {node.iommu.family} reports {fault} is not modelled")

    return unmodelled


def _coherent(node: Node, gpu: Gpu, minor: int) -> range | None:
    """On ATS nodes GPU memory has system addresses, and is a NUMA node of its own."""
    if node.addressing != "ats" or gpu.memory_nbytes is None:
        return None
    base = _COHERENT_BASE + minor * _COHERENT_STRIDE
    return range(base, base + gpu.memory_nbytes)
