"""How an operation reaches memory: which path each address means, what the machine says becomes of the traffic, and
what it costs. One object an operation; every wire request of the driver is made here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NoReturn

from dmaproof.virtual.driver.address_space import Allocation
from dmaproof.virtual.driver.chunks import Bytes, Memory
from dmaproof.virtual.driver.clock import Leg
from dmaproof.virtual.driver.driver import Driver
from dmaproof.virtual.driver.errors import GPU_LOST, CuResult, DriverError, NeverCompletesError
from dmaproof.virtual.driver.gpus import Context, Device
from dmaproof.virtual.driver.host import SystemMemory, exclusive, first_forbidden, readable
from dmaproof.virtual.driver.pages import ManagedPages
from dmaproof.virtual.driver.residence import touch
from dmaproof.virtual.driver.rights import may
from dmaproof.virtual.driver.stuck import die_in_kernel, wait_in_kernel
from dmaproof.virtual.driver.views import Mirror, Nowhere
from dmaproof.virtual.wire import HOST, Dma, DmaOutcome, PageFault

Access = Literal["read", "write", "atomic"]
Engine = Literal["ce", "sm"]


@dataclass(frozen=True, slots=True)
class Span:
    """``nbytes`` of ``memory`` from ``offset`` on, as one GPU sees them."""

    memory: Memory
    offset: int
    nbytes: int

    def read(self, offset: int = 0, nbytes: int | None = None) -> Bytes:
        return self.memory.read(self.offset + offset, self.nbytes - offset if nbytes is None else nbytes)

    def write(self, offset: int, data: Bytes) -> None:
        self.memory.write(self.offset + offset, data)


class Operation:
    """One operation of ``context``'s GPU on ``engine``. ``legs`` and ``extra_ns`` gather its cost."""

    def __init__(self, driver: Driver, context: Context, engine: Engine) -> None:
        self.driver, self.context, self.engine = driver, context, engine
        self.device = context.device
        self.legs: list[Leg] = []
        self.extra_ns = 0.0
        self._ran: set[str] = set()
        self._faulted: set[tuple[int, int]] = set()

    def end(self, ready_ns: float, queued_ns: float) -> float:
        """The modelled end, now that all of the operation's traffic is known."""
        return self.driver.clock.carry_out(ready_ns, queued_ns, self.legs, self.extra_ns)

    def span(self, va: int, nbytes: int, access: Access) -> Span:
        """Memory as a kernel reaches it. Raises DriverError ILLEGAL_ADDRESS, which ends the context."""
        found = self.driver.space.find(va, nbytes)
        if found is None:
            return self._system(va, nbytes, access)
        if va + nbytes > found.end:
            self.illegal(found.end, access)
        offset = va - found.va
        if isinstance(found.memory, ManagedPages):
            touch(self, found.memory, found.va, offset, nbytes, access)
            return Span(found.memory, offset, nbytes)
        if not may(self.context, found, access):
            self.illegal(va, access)
        if found.kind != "device":
            return Span(self.remote(found, None, va, nbytes, access), offset, nbytes)
        owner = self.driver.devices[found.gpu]
        if owner is self.device:
            self.local(self.device, nbytes, va)
            return Span(found.memory, offset, nbytes)
        return Span(self.remote(found, owner, va, nbytes, access), offset, nbytes)

    def _system(self, va: int, nbytes: int, access: Access) -> Span:
        """Memory that CUDA did not hand out: the program's own, where the node's addressing reaches it."""
        node = self.driver.fabric.node
        if not node.pageable or self.driver.space.is_device_address(va) or va == 0:
            self.illegal(va, access)
        memory = SystemMemory(va, self.illegal)
        if nbytes and not readable(va, nbytes):  # nothing there is a fault that the kernel cannot serve either
            self.illegal(va, access)
        if access == "atomic" or (access == "write" and (va, nbytes) not in self._faulted):
            forbidden = first_forbidden(va, nbytes)
            if forbidden is not None:
                self.illegal(forbidden, access)
        self.fault_once(va, nbytes, access)
        if node.addressing == "hmm":  # the pages have come to the GPU
            self.local(self.device, nbytes, va)
            return Span(memory, 0, nbytes)
        source, target = (None, self.device) if access == "read" else (self.device, None)
        outcome = self.dma(self.device, source, target, nbytes, va)
        return Span(Nowhere() if outcome.effect in ("dropped", "mirrored") else memory, 0, nbytes)

    def fault_once(self, va: int, nbytes: int, access: Access) -> None:
        """A page fault on system memory, at an operation's first touch of a range."""
        if (va, nbytes) not in self._faulted and nbytes:
            self._faulted.add((va, nbytes))
            self.fault(self.device, va, nbytes, access, "system", self.device.bdf)

    def local(self, device: Device, nbytes: int, va: int) -> None:
        """Traffic within ``device``, asked about once an operation: no link carries it, but the engine must run.

        The far end is no link away, so nothing but its duration counts, and that is never below the latency.
        """
        if device.bdf not in self._ran:
            self._ask(device, device, device, nbytes, va)
            self._ran.add(device.bdf)
        fabric = self.driver.fabric
        ns, latency = nbytes / fabric.rate_GBps(device, device), fabric.latency_ns(device, device)
        self.legs.append(Leg(fabric.resources(device, device), max(ns, latency), 0.0))

    def remote(self, found: Allocation, owner: Device | None, va: int, nbytes: int, access: Access) -> Memory:
        """The memory that the GPU reaches at ``va`` of ``found``, which ``owner`` (None: the host) holds."""
        source, target = (owner, self.device) if access == "read" else (self.device, owner)
        outcome = self.dma(self.device, source, target, nbytes, va)
        return settle(found, self.device, outcome, access, (va - found.va, nbytes))

    def dma(
        self,
        requester: Device,
        source: Device | None,
        target: Device | None,
        nbytes: int,
        va: int,
        share: float = 1.0,
    ) -> DmaOutcome:
        """Ask what becomes of a transfer between two places and book its cost. Raises what ends the operation.

        ``share`` is the part of the path's rate that the transfer gets to use.
        """
        outcome = self._ask(requester, source, target, nbytes, va)
        fabric = self.driver.fabric
        rate = outcome.bandwidth_GBps or fabric.rate_GBps(source, target)
        latency = outcome.latency_ns or fabric.latency_ns(source, target)
        self.legs.append(Leg(fabric.resources(source, target), nbytes / (rate * share), latency))
        return outcome

    def _ask(self, requester: Device, source: Device | None, target: Device | None, nbytes: int, va: int) -> DmaOutcome:
        ends = place(source), place(target)
        request = Dma(requester=requester.bdf, engine=self.engine, source=ends[0], target=ends[1], nbytes=nbytes, va=va)
        outcome = self.driver.link.dma(request)
        self._went_on(outcome.effect, outcome.code, requester, source, target)
        return outcome

    def fault(
        self,
        device: Device,
        va: int,
        nbytes: int,
        access: Literal["read", "write", "atomic", "prefetch"],
        space: Literal["managed", "system", "unmapped"],
        toward: str,
    ) -> None:
        """Have UVM serve a page fault of ``device``. Raises what ends the operation."""
        mapping: Literal["private", "shared"] = "private"
        if space == "system" and not exclusive(va):
            mapping = "shared"
        asked = PageFault(
            gpu=device.bdf, va=va, nbytes=nbytes, access=access, space=space, toward=toward, mapping=mapping
        )
        outcome = self.driver.link.fault(asked)
        self._went_on(outcome.effect, outcome.code, device)
        self.extra_ns += outcome.duration_ns

    def illegal(self, va: int, access: Access) -> NoReturn:
        """The GPU faults on an address where it finds nothing: the kernel driver hears of it, and the context ends."""
        self.fault(self.device, va, 1, access, "unmapped", self.device.bdf)
        raise DriverError(CuResult.ILLEGAL_ADDRESS)

    def _went_on(self, effect: str, code: str, *involved: Device | None) -> None:
        """Returns where the machine let the operation go on, else ends it as the machine said."""
        if effect in ("never", "replaying", "unserved"):
            raise NeverCompletesError
        if effect == "stuck":
            wait_in_kernel()
        if effect == "killed":
            die_in_kernel()
        if effect == "fatal":
            raise DriverError(CuResult.ILLEGAL_ADDRESS)
        if effect == "failed":
            raise DriverError(CuResult[code])
        if effect == "lost":
            self._lost(*involved)

    def _lost(self, *involved: Device | None) -> None:
        """Contexts of every GPU that is gone die, and the operation's own with them."""
        for device in involved:
            others = [one for one in device.contexts if one is not self.context] if device is not None else []
            if device is None or not others or self.driver.link.inquire(device.bdf).state != "lost":
                continue
            for context in others:
                context.fail(GPU_LOST)
        raise DriverError(GPU_LOST)


def settle(found: Allocation, by: Device, outcome: DmaOutcome, access: Access, where: tuple[int, int]) -> Memory:
    """The memory that ``by`` sees at ``where`` (offset, bytes) of ``found``, after the machine said where its transfer
    goes."""
    if outcome.effect == "dropped":
        return Nowhere()
    if access == "read":
        return found.seen_by(by.ordinal, *where)
    if outcome.effect == "mirrored":
        return found.mirrors.setdefault(by.ordinal, Mirror(found.memory, found.nbytes)).taking(*where)
    found.mirrors.pop(by.ordinal, None)
    return found.memory


def place(device: Device | None) -> str:
    """A place as the wire names it."""
    return HOST if device is None else device.bdf
