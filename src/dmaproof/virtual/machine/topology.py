"""The PCI functions of a node, from the root buses down, and their IOMMU groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dmaproof.rig.model import Gpu, Node
from dmaproof.virtual.machine import products
from dmaproof.virtual.machine.products import Identity


@dataclass(frozen=True, slots=True)
class Function:
    """One PCI function. ``above`` is the port it hangs under, None on a root bus; ``below`` the GPUs under a port."""

    bdf: str
    kind: Literal["root-device", "port", "gpu"]
    identity: Identity
    above: str | None
    gpu: Gpu | None = None
    below: tuple[Gpu, ...] = ()
    group: int | None = None

    @property
    def root_bus(self) -> str:
        """``dddd:bb`` of the host bridge."""
        return (self.above or self.bdf).rpartition(":")[0]

    @property
    def path(self) -> str:
        """Where the kernel keeps it: sys/devices/pciDDDD:BB/..."""
        return f"sys/devices/pci{self.root_bus}/" + (f"{self.above}/" if self.above else "") + self.bdf


def functions(node: Node) -> tuple[Function, ...]:
    """All functions in bus order. Every function has an IOMMU group of its own: ACS isolates each port."""
    found = [Function(gpu.bdf, "gpu", products.gpu(gpu.product), gpu.port, gpu) for gpu in node.gpus]
    for port in {gpu.port for gpu in node.gpus if gpu.port is not None}:
        below = tuple(gpu for gpu in node.gpus if gpu.port == port)
        found.append(Function(port, "port", products.port(node), None, below=below))
    identity = products.root_device(node)
    taken = {one.bdf for one in found}
    if identity is not None:
        roots = {f"{one.root_bus}:00.0" for one in found} - taken
        found += [Function(root, "root-device", identity, None) for root in roots]
    found.sort(key=lambda one: one.bdf)
    return tuple(_grouped(node, number, one) for number, one in enumerate(found))


def _grouped(node: Node, number: int, one: Function) -> Function:
    if not has_iommu(node):
        return one
    return Function(one.bdf, one.kind, one.identity, one.above, one.gpu, one.below, number)


def has_iommu(node: Node) -> bool:
    """Whether an IOMMU stands over the node's devices and is on."""
    return node.iommu.family != "none" and node.iommu.domain != "none"
