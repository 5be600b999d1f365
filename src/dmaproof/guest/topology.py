"""From a lab node's claims to QEMU's arguments: pure, so that what a rig means can be read and compared.

Every device gets an address of its own, from the rig or from here, so that it does not matter what else is put on the
bus. The bus numbers behind the ports are the firmware's to give, not QEMU's: dmaproof.rig.lab holds the rig to those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from dmaproof.guest import memory, window
from dmaproof.rig.hardware import Endpoint, Function, Gpu, Guest, Qemu, Switch
from dmaproof.rig.lab import LAST_DEVICE, MIB, RootPort, device_of, root_bus_of, root_ports
from dmaproof.rig.model import Node

_KINDS = {
    "edu": ("edu", "dma_mask=0xffffffffffffffff"),  # its own mask is 28 bits (hw/misc/edu.c)
    "nvme": ("nvme",),
    "igb": ("igb", "romfile="),  # nobody boots from it, and the ROM may not be there
    "iommu-testdev": ("iommu-testdev",),
}
_DRIVE = "driver=null-co,size=64M,read-zeroes=on,snapshot=on"
"""A drive that keeps what is written, in a temporary file that QEMU unlinks as it opens it (block.c,
bdrv_append_temp_snapshot): nothing stays, whatever becomes of QEMU."""
_IOMMUFD = "iommufd0"
_MACHINES = {"x86_64": "q35,kernel-irqchip=split", "aarch64": "virt,gic-version=3"}
"""Interrupt remapping wants the split irqchip (hw/i386/intel_iommu.c), the SMMU's MSIs a GICv3 with its ITS."""
_CPUS = {"x86_64": None, "aarch64": "cortex-a57"}
"""What virt has when told nothing is a CPU of 32 bits."""
_IOMMUS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "vtd": ("intel-iommu", {"intremap": "on", "device-iotlb": "on", "aw-bits": "48"}),
    "amdvi": ("amd-iommu", {"pci-id": "amdvi", "intremap": "on", "device-iotlb": "on", "dma-remap": "on"}),
    "virtio-iommu": ("virtio-iommu-pci", {"aw-bits": "48"}),
    "smmuv3": ("arm-smmuv3", {"primary-bus": "pcie.0"}),
}
_PARAMETERS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("vtd", "translated"): ("intel_iommu=on", "iommu.passthrough=0"),
    ("vtd", "passthrough"): ("intel_iommu=on", "iommu=pt"),
    ("vtd", "unknown"): ("intel_iommu=on",),
}


def arguments(node: Node, lent: Mapping[str, Function] = MappingProxyType({})) -> tuple[str, ...]:
    """QEMU's options for the machine, its memory, IOMMU, ports, switches and functions; the rest is the caller's.

    A port's id is ``port-00-10``, a switch's ``switch-NAME``, an endpoint's or GPU's ``endpoint-NAME``. ``lent``
    are a guest's functions as the node has them that it is made on, by name: they are given to it by VFIO.
    """
    return tuple(_arguments(node, lent))


def kernel_parameters(node: Node) -> tuple[str, ...]:
    """The words of the kernel's command line that ``node.iommu`` stands for; ``node.parameters`` come beside them."""
    by_domain = {"translated": ("iommu.passthrough=0",), "passthrough": ("iommu.passthrough=1",)}
    family, domain = node.iommu.family, node.iommu.domain
    return _PARAMETERS.get((family, domain), by_domain.get(domain, ()))


def _arguments(node: Node, lent: Mapping[str, Function]) -> Iterator[str]:
    qemu = node.made_by
    ports = root_ports(node.switch.values(), node.functions)
    yield from _machine(node, qemu)
    yield from memory.options(node, qemu)
    yield from window.options(node, lent)
    own, *expanders = _own_slots(ports)
    yield from _devices(_iommu(node, qemu, own), _expanders(node, ports, expanders), _ports(qemu, ports))
    if node.guest is not None and node.guest.backend == "iommufd":
        yield from ("-object", f"iommufd,id={_IOMMUFD}")
    if node.guest is None:
        for endpoint in node.endpoints:
            yield from _endpoint(endpoint)
    else:
        for function in node.functions:
            yield from _assigned(function, node.guest, lent[function.name].bdf)


def _devices(*groups: Iterable[str]) -> Iterator[str]:
    for group in groups:
        for device in group:
            yield from ("-device", device)


def _machine(node: Node, qemu: Qemu) -> Iterator[str]:
    machine = _MACHINES[qemu.arch]
    plain_smmu = node.iommu.family == "smmuv3" and not qemu.iommu_options
    yield from ("-machine", f"{machine},iommu=smmuv3" if plain_smmu else machine)
    cpu = qemu.cpu or _CPUS[qemu.arch]
    if cpu is not None:
        yield from ("-cpu", cpu)
    yield from ("-smp", str(qemu.cpus))


def _own_slots(ports: Iterable[RootPort]) -> list[int]:
    """The places on bus 0 that the rig leaves to the IOMMU and to the bridges of other root buses, from the top."""
    taken = {device_of(port.bdf) for port in ports if port.bus == 0}
    return [slot for slot in range(LAST_DEVICE, 0, -1) if slot not in taken]


def _iommu(node: Node, qemu: Qemu, slot: int) -> Iterator[str]:
    """Before all that it stands over: iommu-testdev and virtio-iommu look for it, or at the bus, as they come up."""
    family = node.iommu.family
    if family == "none" or (family == "smmuv3" and not qemu.iommu_options):
        return
    if family == "amdvi":
        yield f"AMDVI-PCI,id=amdvi,bus=pcie.0,addr={slot:02x}"
    device, defaults = _IOMMUS[family]
    place = {"bus": "pcie.0", "addr": f"{slot:02x}"} if family == "virtio-iommu" else {}
    if node.guest is not None and family == "vtd":
        defaults = {**defaults, "caching-mode": "on"}  # else QEMU refuses VFIO behind it: it is not told of new maps
    options = {**place, **defaults, **dict(option.split("=", 1) for option in qemu.iommu_options)}
    yield ",".join([device, *(f"{key}={value}" for key, value in options.items())])


def _expanders(node: Node, ports: Iterable[RootPort], slots: Iterable[int]) -> Iterator[str]:
    """Root buses other than 0. Their bridges stand on bus 0."""
    numa = {root_bus_of(one, node.switch.values()): one.numa_node for one in node.functions}
    for bus, slot in zip(sorted({port.bus for port in ports} - {0}), slots, strict=False):
        at = f"pxb-pcie,id={_root(bus)},bus=pcie.0,addr={slot:02x},bus_nr={bus}"
        yield at if numa.get(bus) is None else f"{at},numa_node={numa[bus]}"


def _root(bus: int) -> str:
    return f"root-{bus:02x}" if bus else "pcie.0"


def _id(bdf: str | None) -> str:
    """QEMU's ids have no colons, and with dots ``-set device.ID.KEY=VALUE`` cannot name them. Its function is 0."""
    assert bdf is not None  # noqa: S101 - dmaproof.rig.lab holds every part to have a port
    return f"port-{bdf[5:-2].replace(':', '-')}"


def _ports(qemu: Qemu, ports: Iterable[RootPort]) -> Iterator[str]:
    chassis = 0  # a port's slot number must be the only one in its chassis (hw/pci/pcie_port.c)
    for port in ports:
        chassis += 1
        model = "ioh3420" if port.bdf in qemu.no_acs else "pcie-root-port"  # QEMU's one root port without ACS
        yield f"{model},id={_id(port.bdf)},bus={_root(port.bus)},addr={device_of(port.bdf):02x},chassis={chassis}"
        if port.switch is not None:
            yield from _switch(port.switch, chassis)
            chassis += len(port.switch.downstream)


def _switch(switch: Switch, chassis: int) -> Iterator[str]:
    upstream = f"switch-{switch.name}"
    yield f"x3130-upstream,id={upstream},bus={_id(switch.port)},addr=00"
    for number, port in enumerate(sorted(switch.downstream), start=chassis + 1):
        yield f"xio3130-downstream,id={_id(port)},bus={upstream},addr={device_of(port):02x},chassis={number}"


def _assigned(function: Function, guest: Guest, host_bdf: str) -> Iterator[str]:
    """A clique is a capability that QEMU adds to an NVIDIA GPU's (hw/vfio/pci-quirks.c)."""
    words = [f"vfio-pci,host={host_bdf}", f"id=endpoint-{function.name}", f"bus={_id(function.port)}", "addr=00"]
    if guest.backend == "iommufd":
        words.append(f"iommufd={_IOMMUFD}")
    if function.name in guest.no_mmap:
        words.append("x-no-mmap=on")
    if isinstance(function, Gpu) and function.clique is not None:
        words.append(f"x-nv-gpudirect-clique={function.clique}")
    yield from ("-device", ",".join(words))


def _endpoint(endpoint: Endpoint) -> Iterator[str]:
    model, *fixed = _KINDS[endpoint.kind]
    words = [model, f"id=endpoint-{endpoint.name}", f"bus={_id(endpoint.port)}", "addr=00", *fixed]
    if endpoint.kind == "nvme":
        drive = f"drive-{endpoint.name}"
        yield from ("-drive", f"if=none,id={drive},{_DRIVE}")
        words += [f"serial={endpoint.name}", f"drive={drive}"]
    if endpoint.cmb_nbytes is not None:
        words.append(f"cmb_size_mb={endpoint.cmb_nbytes // MIB}")
    yield from ("-device", ",".join(words))
