"""The GPUs of the node and their primary contexts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dmaproof.rig.hardware import Gpu
from dmaproof.rig.model import HOST, Node, Path
from dmaproof.virtual.driver.clock import Resource
from dmaproof.virtual.driver.errors import CuResult, DriverError
from dmaproof.virtual.driver.streams import Scheduler, Stream

if TYPE_CHECKING:
    from dmaproof.virtual.driver.driver import Driver


@dataclass(eq=False, slots=True)
class Device:
    """GPU number ``ordinal`` (PCI order, as with CUDA_DEVICE_ORDER=PCI_BUS_ID) and the bytes of it in use. ``context``
    is the primary one, ``contexts`` are all."""

    ordinal: int
    gpu: Gpu
    used_nbytes: int = 0
    context: Context | None = None
    contexts: list[Context] = field(default_factory=list)
    flags: int = 0

    @property
    def bdf(self) -> str:
        return self.gpu.bdf

    @property
    def memory_nbytes(self) -> int:
        return self.gpu.memory_nbytes or 16 << 30

    @property
    def compute_capability(self) -> tuple[int, int]:
        major, minor = (self.gpu.compute_capability or "9.0").split(".")
        return int(major), int(minor)


class Context:
    """A context. ``mapped`` are those whose memory it has mapped.

    ``error``, once set, is what every later call on the context returns, as after a fault on a real device.
    """

    def __init__(self, device: Device, driver: Driver) -> None:
        self.device, self._driver = device, driver
        self.handle = driver.handles.add(self)
        self.uses = 0
        self.error: CuResult | None = None
        self.mapped: set[Context] = set()
        self.streams: list[Stream] = []
        self.legacy = self.new_stream(blocking=True)
        self.per_thread = self.new_stream(blocking=True)
        device.contexts.append(self)

    @property
    def peers(self) -> set[int]:
        """The ordinals of the GPUs whose memory it has mapped."""
        return {one.device.ordinal for one in self.mapped}

    def new_stream(self, blocking: bool, flags: int = 0, priority: int = 0) -> Stream:
        stream = Stream(self, blocking, flags, priority, number=self._driver.next_stream_number())
        self.streams.append(stream)
        return stream

    def fail(self, code: CuResult) -> None:
        """The first error counts; all queued work is given up."""
        if self.error is None:
            self.error = code
        self.scheduler.drop(self.streams)

    def check(self) -> None:
        if self.error is not None:
            raise DriverError(self.error)

    @property
    def scheduler(self) -> Scheduler:
        return self._driver.scheduler


@dataclass(frozen=True, slots=True)
class Fabric:
    """The node's paths by device: None is the host's memory."""

    node: Node
    fallback_GBps: float = field(default=8.0)

    def path(self, source: Device | None, target: Device | None) -> Path | None:
        return self.node.path_between(_name(source), _name(target))

    def rate_GBps(self, source: Device | None, target: Device | None) -> float:  # noqa: N802 - the unit is spelt so
        path = self.path(source, target)
        return (path.bandwidth_GBps if path else None) or self.fallback_GBps

    def latency_ns(self, source: Device | None, target: Device | None) -> float:
        path = self.path(source, target)
        return (path.latency_ns if path else None) or 0.0

    def resources(self, source: Device | None, target: Device | None) -> tuple[Resource, ...]:
        """The link directions that a transfer occupies, at each GPU it leaves and enters."""
        path = self.path(source, target)
        kind = path.kind if path else "pcie"
        if source is target and source is not None:
            return ((source.ordinal, "local", ""),)
        ends = ((source, "out"), (target, "in"))
        return tuple((end.ordinal, kind, way) for end, way in ends if end is not None)


def _name(device: Device | None) -> str:
    return HOST if device is None else device.gpu.name
