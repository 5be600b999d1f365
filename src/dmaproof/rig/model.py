"""What a rig file may say. Every field is a claim about the machine; what is left out is not claimed.

Rates are GB/s = 1e9 bytes/s per direction, latencies nanoseconds, times seconds. Hardware: dmaproof.rig.hardware.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, Literal

from pydantic import Field, model_validator

from dmaproof.rig import guests, lab
from dmaproof.rig.hardware import Endpoint, Function, Gpu, Guest, Iommu, Model, Qemu, Switch, Word

Addressing = Literal["none", "hmm", "ats", "unknown"]
Offer = Literal["vfio", "iommufd", "vfio-dmabuf", "vfio-noiommu", "iommu-debugfs"]
PathKind = Literal["nvlink", "pcie", "c2c", "local", "unknown"]
RigKind = Literal["host", "virtual", "lab"]
HOST = "host"
"""The name a path uses for the node's own memory."""
NAMED = ("gpu", "switch", "endpoint")
"""The tables of a node whose entries are called what their keys say."""


class Path(Model):
    """What a directed transfer between two ends must reach; ends are names or globs, ``host`` is node memory.

    ``peer`` claims that the target's memory can be mapped by the source GPU (cuDeviceCanAccessPeer), and of endpoints
    that the source's DMA arrives in the target's BARs.
    A ``local`` path is within one GPU; no other kind is.
    """

    source: str
    target: str
    kind: PathKind
    bandwidth_GBps: float | None = Field(default=None, gt=0)
    latency_ns: float | None = Field(default=None, gt=0)
    peer: bool = False

    def matches(self, source: str, target: str) -> bool:
        if (source == target) != (self.kind == "local"):
            return False
        return fnmatchcase(source, self.source) and fnmatchcase(target, self.target)


class Node(Model):
    """One running operating system: its GPUs and other endpoints, how memory is addressed, the paths between its ends.

    ``parameters`` are words of the kernel's command line beside those that ``iommu`` stands for. ``offers`` are parts
    of the kernel that some builds lack: suites that need one fail where it is claimed and missing, and are skipped
    where it is neither. ``qemu`` is how a lab, or the node that it is a guest on, makes it.
    """

    name: str = ""
    role: Literal["host", "guest"] = "host"
    addressing: Addressing = "unknown"
    iommu: Iommu = Iommu()
    parameters: tuple[str, ...] = ()
    offers: tuple[Offer, ...] = ()
    gpu: dict[Word, Gpu] = Field(default_factory=dict)
    switch: dict[Word, Switch] = Field(default_factory=dict)
    endpoint: dict[Word, Endpoint] = Field(default_factory=dict)
    path: tuple[Path, ...] = ()
    qemu: Qemu | None = None
    guest: Guest | None = None

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        return tuple(self.gpu.values())

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The DMA engines that need no CUDA."""
        return tuple(self.endpoint.values())

    @property
    def functions(self) -> tuple[Function, ...]:
        """All that start DMA."""
        return (*self.gpus, *self.endpoints)

    @property
    def made_by(self) -> Qemu:
        """How QEMU makes it, where it does: what is not said is as QEMU's defaults are."""
        return self.qemu or Qemu()

    @property
    def pageable(self) -> bool:
        """Whether its GPUs use memory that CUDA did not hand out (CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS)."""
        return self.addressing in ("hmm", "ats")

    @property
    def numa_nodes(self) -> int:
        """How many NUMA nodes its functions take: they are numbered from 0."""
        return 1 + max((one.numa_node or 0 for one in self.functions), default=0)

    def path_between(self, source: str, target: str) -> Path | None:
        """The first declared path from ``source`` to ``target`` (names of GPUs, endpoints, or ``host``), or None."""
        return next((path for path in self.path if path.matches(source, target)), None)

    def switch_above(self, gpu: Gpu) -> Switch | None:
        """The switch that ``gpu`` is under, or None."""
        return next((one for one in self.switch.values() if gpu.port in one.downstream), None)

    @model_validator(mode="after")
    def _functions_are_distinct(self) -> Node:
        taken: dict[str, str] = {}
        for one in self.functions:
            _claim(taken, one.name, one.bdf)
        for switch in self.switch.values():
            for port in (switch.upstream, *switch.downstream):
                _claim(taken, switch.name, port)
            if switch.port in taken:
                raise ValueError(f"{switch.name}.port {switch.port} must be a root port, but is {taken[switch.port]}'s")
        names = {one.bdf: one.name for one in self.functions}
        for endpoint in self.endpoints:
            if endpoint.port in names:
                raise ValueError(f"{endpoint.name}.port {endpoint.port} must be a port, but is {names[endpoint.port]}")
        return self

    @model_validator(mode="after")
    def _ends_exist(self) -> Node:
        for what, named in (("a GPU", self.gpu), ("an endpoint", self.endpoint)):
            if HOST in named:
                raise ValueError(f"{what} cannot be called {HOST!r}: paths use that name for the node's own memory")
        both = sorted({*self.gpu} & {*self.endpoint})
        if both:
            raise ValueError(f"{both[0]!r} is a GPU and an endpoint: names stand in test ids, so give them two")
        names = {*self.gpu, *self.endpoint, HOST}
        for path in self.path:
            for end in (path.source, path.target):
                if not any(fnmatchcase(name, end) for name in names):
                    raise ValueError(f"path end {end!r} matches none of {', '.join(sorted(names))}")
        return self


def _claim(taken: dict[str, str], name: str, bdf: str) -> None:
    if bdf in taken:
        raise ValueError(f"{name} and {taken[bdf]} both claim {bdf}")
    taken[bdf] = name


class Deadlines(Model):
    """Wall-clock limits. ``workload_s`` is for one workload, before ``scale`` is applied to any deadline."""

    workload_s: float = Field(default=30.0, ge=0.01, le=86400)
    scale: float = Field(default=1.0, ge=0.01, le=1000)


class Rig(Model):
    """A whole rig. ``name`` is how people ask for it after ``kind:``."""

    name: Word
    kind: RigKind
    description: str = ""
    deadline: Deadlines = Deadlines()
    node: dict[Word, Node] = Field(min_length=1)

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(self.node.values())

    @property
    def id(self) -> str:
        """``virtual:hgx-h100``; plain ``host`` for this machine."""
        return self.name if self.kind == self.name else f"{self.kind}:{self.name}"

    @property
    def first(self) -> Node:
        """The node that the others are guests on, or the first of several that are not."""
        return next(node for node in self.nodes if node.guest is None)

    @model_validator(mode="after")
    def _made_as_its_kind_is(self) -> Rig:
        """QEMU makes guests and the nodes of a lab, and nobody else's."""
        for node in self.nodes:
            made = node.guest is not None or self.kind == "lab"
            if node.qemu is not None and not made:
                raise ValueError(
                    f"node.{node.name}.qemu: QEMU makes guests, and nodes of rigs of kind lab; this one is {self.kind}"
                )
            if self.kind == "lab" and node.gpus:
                raise ValueError(f"node.{node.name}.gpu.{node.gpus[0].name}: QEMU has no GPUs; a lab has endpoints")
            wrong = lab.complaint(node.iommu, node.switch.values(), node.functions, node.made_by) if made else None
            if wrong is None and node.guest is not None:
                wrong = guests.complaint(node, self.node)
            if wrong is not None:
                raise ValueError(f"node.{node.name}.{wrong}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _names_from_keys(cls, data: object) -> object:
        """Nodes, and the parts in NAMED, are called what their table is called: the name is written once."""
        if not isinstance(data, dict) or not isinstance(data.get("node"), dict):
            return data
        nodes = {}
        for name, node in data["node"].items():
            if isinstance(node, dict):
                node = _named(name, node)
                for kind in NAMED:
                    if isinstance(node.get(kind), dict):
                        node[kind] = {key: _named(key, table) for key, table in node[kind].items()}
            nodes[name] = node
        return {**data, "node": nodes}


def _named(key: str, table: Any) -> Any:
    if not isinstance(table, dict):
        return table
    if table.get("name", key) != key:
        raise ValueError(
            f"table {key!r} has name = {table['name']!r}: leave name out, a table is called what its key says"
        )
    return {**table, "name": key}
