"""What a rig file may say. Every field is a claim about the machine; what is left out is not claimed.

Lengths are bytes, rates GB/s = 1e9 bytes/s per direction, latencies nanoseconds, times seconds.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from dmaproof import bdf
from dmaproof.errors import UsageError


def _bdf(text: str) -> str:
    try:
        return bdf.parse(text)
    except UsageError as error:
        raise ValueError(str(error)) from None


def _word(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text) is None:
        raise ValueError(f"{text!r} cannot be a name: use letters, digits and . _ - (it stands in test ids and paths)")
    return text


Bdf = Annotated[str, AfterValidator(_bdf)]
Word = Annotated[str, AfterValidator(_word)]
IommuFamily = Literal["vtd", "amdvi", "smmuv3", "smmuv2", "virtio-iommu", "none", "unknown"]
DomainType = Literal["translated", "passthrough", "none", "unknown"]
Addressing = Literal["none", "hmm", "ats", "unknown"]
PathKind = Literal["nvlink", "pcie", "c2c", "local", "unknown"]
RigKind = Literal["host", "virtual", "lab"]
HOST = "host"
"""The name a path uses for the node's own memory."""


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Bar(Model):
    """One base address register: ``address`` is the bus address."""

    index: int = Field(ge=0, le=5)
    address: int = Field(ge=0, lt=1 << 64)
    nbytes: int = Field(gt=0, le=1 << 52)


class PcieLink(Model):
    """A link as it must be trained: ``generation`` 5 is 32 GT/s."""

    generation: int = Field(ge=1, le=7)
    width: int = Field(ge=1, le=32)


class Iommu(Model):
    """Which IOMMU stands over the node's endpoints, and their default domain type."""

    family: IommuFamily = "none"
    domain: DomainType = "none"


class Gpu(Model):
    """One CUDA GPU. ``port`` is the port above it (root port or switch downstream port)."""

    name: str = ""
    bdf: Bdf
    uuid: str | None = None
    product: str | None = None
    compute_capability: str | None = Field(default=None, pattern=r"^\d+\.\d+$")
    memory_nbytes: int | None = Field(default=None, gt=0)
    port: Bdf | None = None
    numa_node: int | None = None
    pcie: PcieLink | None = None
    nvlinks: int | None = Field(default=None, ge=0)
    bars: tuple[Bar, ...] = ()
    clique: int | None = Field(default=None, ge=0, le=15)


class Switch(Model):
    """One PCIe switch: its ``upstream`` port hangs under root port ``port``, GPUs under its ``downstream`` ports.

    ``pcie`` is the link of the upstream port; left out, that of the GPUs.
    """

    name: str = ""
    upstream: Bdf
    port: Bdf
    downstream: tuple[Bdf, ...] = Field(min_length=1)
    pcie: PcieLink | None = None


class Path(Model):
    """What a directed transfer between two ends must reach; ends are names or globs, ``host`` is node memory.

    ``peer`` claims that the target's memory can be mapped by the source GPU (cuDeviceCanAccessPeer).
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
    """One running operating system: its GPUs, how memory is addressed, and the paths between its ends.

    ``parameters`` are words of the kernel's command line beside those that ``iommu`` stands for.
    """

    name: str = ""
    role: Literal["host", "guest"] = "host"
    addressing: Addressing = "unknown"
    iommu: Iommu = Iommu()
    parameters: tuple[str, ...] = ()
    gpu: dict[Word, Gpu] = {}
    switch: dict[Word, Switch] = {}
    path: tuple[Path, ...] = ()

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        return tuple(self.gpu.values())

    def path_between(self, source: str, target: str) -> Path | None:
        """The first declared path from ``source`` to ``target`` (GPU names or ``host``), or None."""
        return next((path for path in self.path if path.matches(source, target)), None)

    def switch_above(self, gpu: Gpu) -> Switch | None:
        """The switch that ``gpu`` is under, or None."""
        return next((one for one in self.switch.values() if gpu.port in one.downstream), None)

    @model_validator(mode="after")
    def _ports_are_distinct(self) -> Node:
        taken: dict[str, str] = {gpu.bdf: gpu.name for gpu in self.gpus}
        for switch in self.switch.values():
            for port in (switch.upstream, *switch.downstream):
                if port in taken:
                    raise ValueError(f"{switch.name} and {taken[port]} both claim {port}")
                taken[port] = switch.name
            if switch.port in taken:
                raise ValueError(f"{switch.name}.port {switch.port} must be a root port, but is {taken[switch.port]}'s")
        return self

    @model_validator(mode="after")
    def _ends_exist(self) -> Node:
        if HOST in self.gpu:
            raise ValueError(f"a GPU cannot be called {HOST!r}: paths use that name for the node's own memory")
        names = {*self.gpu, HOST}
        for path in self.path:
            for end in (path.source, path.target):
                if not any(fnmatchcase(name, end) for name in names):
                    raise ValueError(f"path end {end!r} matches none of {', '.join(sorted(names))}")
        seen: dict[str, str] = {}
        for gpu in self.gpus:
            if gpu.bdf in seen:
                raise ValueError(f"{gpu.name} and {seen[gpu.bdf]} both claim {gpu.bdf}")
            seen[gpu.bdf] = gpu.name
        return self


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

    @model_validator(mode="before")
    @classmethod
    def _names_from_keys(cls, data: object) -> object:
        """A node, a GPU and a switch are called what their table is called: the name is written once."""
        if not isinstance(data, dict) or not isinstance(data.get("node"), dict):
            return data
        nodes = {}
        for name, node in data["node"].items():
            if isinstance(node, dict):
                node = _named(name, node)
                for kind in ("gpu", "switch"):
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
