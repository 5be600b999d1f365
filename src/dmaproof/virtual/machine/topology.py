"""The PCI functions of a node, from the root buses down, and their IOMMU groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from dmaproof.rig.hardware import Gpu, PcieLink, Switch
from dmaproof.rig.model import Node
from dmaproof.virtual.machine import acs, products
from dmaproof.virtual.machine.products import Identity

Kind = Literal["root-device", "root-port", "upstream-port", "downstream-port", "gpu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One PCI function. ``ancestry`` are the ports above it, the root port first; empty on a root bus.

    ``below`` are the GPUs anywhere under a port, ``buses`` the first and last bus under it. ``link`` is the link that
    the function's link registers tell of, as the rig declares it; ``link_gpu`` the GPU at its other or this end.
    ``acs`` is the ACS control register, None without the capability. ``has_dpc``: the port contains fatal errors.
    """

    bdf: str
    kind: Kind
    identity: Identity
    ancestry: tuple[str, ...] = ()
    gpu: Gpu | None = None
    below: tuple[Gpu, ...] = ()
    buses: tuple[int, int] = (0, 0)
    link: PcieLink | None = None
    link_gpu: str | None = None
    acs: int | None = None
    has_dpc: bool = False
    group: int | None = None

    @property
    def is_port(self) -> bool:
        return self.kind.endswith("-port")

    @property
    def root_bus(self) -> str:
        """``dddd:bb`` of the host bridge."""
        return (*self.ancestry, self.bdf)[0].rpartition(":")[0]

    @property
    def path(self) -> str:
        """Where the kernel keeps it: sys/devices/pciDDDD:BB/..."""
        return "/".join((f"sys/devices/pci{self.root_bus}", *self.ancestry, self.bdf))


def functions(node: Node) -> tuple[Function, ...]:
    """All functions in bus order."""
    found = [*_gpus(node), *_root_ports(node)]
    for switch in node.switch.values():
        found += _switch(node, switch)
    identity = products.root_device(node)
    taken = {one.bdf for one in found}
    if identity is not None:
        roots = {f"{one.root_bus}:00.0" for one in found} - taken
        found += [Function(bdf=root, kind="root-device", identity=identity) for root in roots]
    found.sort(key=lambda one: one.bdf)
    return tuple(_grouped([_with_services(node, one) for one in found], node))


def _with_services(node: Node, one: Function) -> Function:
    """What the kernel sets up in ports. Those that hypervisors give their guests contain no errors."""
    control = acs.control(node, one.kind, one.bdf, one.identity)
    return replace(one, acs=control, has_dpc=control is not None and node.role == "host")


def _gpus(node: Node) -> Iterator[Function]:
    for gpu in node.gpus:
        switch = node.switch_above(gpu)
        above = () if switch is None else (switch.port, switch.upstream)
        yield Function(
            bdf=gpu.bdf,
            kind="gpu",
            identity=products.gpu(gpu.product),
            ancestry=(*above, gpu.port) if gpu.port is not None else (),
            gpu=gpu,
            link=gpu.pcie,
            link_gpu=gpu.bdf,
        )


def _root_ports(node: Node) -> Iterator[Function]:
    """Those right above a GPU, and those above a switch."""
    identity = products.port(node)
    for port in {gpu.port for gpu in node.gpus if gpu.port is not None and node.switch_above(gpu) is None}:
        yield _above_gpus(node, port, "root-port", identity, ())
    for switch in node.switch.values():
        last = max(_bus(bdf) for bdf in (*switch.downstream, *(gpu.bdf for gpu in _under(node, switch))))
        yield Function(
            bdf=switch.port,
            kind="root-port",
            identity=identity,
            below=_under(node, switch),
            buses=(_bus(switch.upstream), last),
            link=_uplink(node, switch),
        )


def _switch(node: Node, switch: Switch) -> Iterator[Function]:
    under, identity = _under(node, switch), products.SWITCH_PORT
    last = max(_bus(bdf) for bdf in (*switch.downstream, *(gpu.bdf for gpu in under)))
    yield Function(
        bdf=switch.upstream,
        kind="upstream-port",
        identity=identity,
        ancestry=(switch.port,),
        below=under,
        buses=(_bus(switch.downstream[0]), last),
        link=_uplink(node, switch),
    )
    for port in switch.downstream:
        yield _above_gpus(node, port, "downstream-port", identity, (switch.port, switch.upstream))


def _above_gpus(node: Node, port: str, kind: Kind, identity: Identity, ancestry: tuple[str, ...]) -> Function:
    below = tuple(gpu for gpu in node.gpus if gpu.port == port)
    buses = [_bus(gpu.bdf) for gpu in below] or [_bus(port)]
    first = below[0] if below else None
    return Function(
        bdf=port,
        kind=kind,
        identity=identity,
        ancestry=ancestry,
        below=below,
        buses=(min(buses), max(buses)),
        link=first.pcie if first else None,
        link_gpu=first.bdf if first else None,
    )


def _under(node: Node, switch: Switch) -> tuple[Gpu, ...]:
    return tuple(gpu for gpu in node.gpus if gpu.port in switch.downstream)


def _uplink(node: Node, switch: Switch) -> PcieLink | None:
    return switch.pcie or next((gpu.pcie for gpu in _under(node, switch)), None)


def _bus(bdf: str) -> int:
    return int(bdf.split(":")[1], 16)


def _grouped(found: list[Function], node: Node) -> Iterator[Function]:
    """Groups in bus order. A port that does not isolate shares its group with what is under it (pci_device_group,
    drivers/iommu/iommu.c: the port of the first bus above whose path to the root isolates)."""
    if not has_iommu(node):
        yield from found
        return
    ports = {one.bdf: one for one in found}
    numbers: dict[str, int] = {}
    for one in found:
        owner = one.bdf
        for port in reversed(one.ancestry):
            if ports[port].acs is None or acs.isolates(ports[port].acs):
                break
            owner = port
        yield replace(one, group=numbers.setdefault(owner, len(numbers)))


def has_iommu(node: Node) -> bool:
    """Whether an IOMMU stands over the node's devices and is on."""
    return acs.has_iommu(node)


def units(node: Node) -> dict[str, int]:
    """The number of the IOMMU over each root bus: one a bus, in order."""
    return {bus: number for number, bus in enumerate(sorted({one.root_bus for one in functions(node)}))}


def smmu_of(node: Node) -> dict[str, str]:
    """The platform device of the SMMUv3 over each function (drivers/acpi/arm64/iort.c names them)."""
    numbers = units(node)
    return {one.bdf: f"arm-smmu-v3.{numbers[one.root_bus]}.auto" for one in functions(node)}
