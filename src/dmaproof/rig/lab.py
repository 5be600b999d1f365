"""What a lab rig may claim: parts that QEMU has, at the addresses that firmware and kernel will give them.

Bus numbers are depth first, ports in order of their device numbers: SeaBIOS gives them so (src/fw/pciinit.c,
pci_bios_init_bus_rec), Linux keeps them, and gives the same itself where no firmware did (drivers/pci/probe.c,
pci_scan_child_bus_extend). A root bus that is not bus 0 keeps the number that QEMU is told for it (pxb-pcie, bus_nr).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, groupby

from dmaproof.rig.hardware import Endpoint, Function, Gpu, Iommu, Qemu, Switch

MIB = 1 << 20
_LAST_NUMA_NODE = 127
"""MAX_NODES, include/system/numa.h."""
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "x86_64": ("vtd", "amdvi", "virtio-iommu", "none"),
    "aarch64": ("smmuv3", "none"),
}
"""The IOMMUs that QEMU models, by architecture."""
LAST_DEVICE = 0x1E
"""Bus 0 has places 01 to this one: 00 is the host bridge's, 1f q35's ICH9's (hw/i386/pc_q35.c)."""


@dataclass(frozen=True)
class RootPort:
    """A root port that the claims imply, with the one thing below it: a switch or a function."""

    bdf: str
    switch: Switch | None
    function: Function | None

    @property
    def bus(self) -> int:
        """The number of the root bus that it is on."""
        return bus_of(self.bdf)

    @property
    def buses_below(self) -> int:
        """How many bus numbers it takes: its own link's, a switch's inner bus, and the links of that one's ports."""
        return 1 if self.switch is None else 2 + len(self.switch.downstream)


@dataclass(frozen=True)
class _Claim:
    """An address that a key of the node's table claims, and the one that it will be, for what is behind ``port``."""

    key: str
    claimed: str
    right: str
    port: str


def bus_of(bdf: str) -> int:
    return int(bdf.split(":")[1], 16)


def device_of(bdf: str) -> int:
    return int(bdf.split(":")[2].partition(".")[0], 16)


def root_ports(switches: Collection[Switch], functions: Collection[Function]) -> tuple[RootPort, ...]:
    """Every port that is named and is no switch's downstream port, in order of address."""
    downstream = {port for switch in switches for port in switch.downstream}
    above = {switch.port: switch for switch in switches}
    below = {one.port: one for one in functions if one.port is not None and one.port not in downstream}
    return tuple(RootPort(bdf, above.get(bdf), below.get(bdf)) for bdf in sorted({*above, *below}))


def complaint(iommu: Iommu, switches: Collection[Switch], functions: Collection[Function], qemu: Qemu) -> str | None:
    """The first claim that QEMU cannot fulfil or that comes out otherwise, as ``key: what is wrong``; None where all
    can come true."""
    ports = root_ports(switches, functions)
    found = chain(
        _of_iommu(iommu, qemu),
        _of_parts(switches, functions),
        _of_acs(qemu, ports),
        _of_places(switches, functions, ports),
        _of_root_buses(ports, qemu),
        _of_numbers(ports, functions),
        _of_numa(switches, functions),
    )
    return next(found, None)


def _of_iommu(iommu: Iommu, qemu: Qemu) -> Iterator[str]:
    families = FAMILIES[qemu.arch]
    if iommu.family not in families:
        yield f"iommu.family = {iommu.family!r}: QEMU's {qemu.arch} machine has {', '.join(families)}"
    if (iommu.family == "none") != (iommu.domain == "none"):
        yield f"iommu.domain = {iommu.domain!r} cannot be with family {iommu.family!r}: none goes with none only"
    if iommu.family == "none" and qemu.iommu_options:
        yield f"qemu.iommu_options: there is no IOMMU to take {qemu.iommu_options[0]}"


def _of_parts(switches: Collection[Switch], functions: Collection[Function]) -> Iterator[str]:
    for switch in switches:
        if switch.pcie is not None:
            yield f"switch.{switch.name}.pcie: the link of QEMU's switch cannot be chosen; leave it out"
    for one in functions:
        if one.port is None:
            yield f"{_table(one)}.port is missing: name the port that is to be above it, such as 0000:00:10.0"
        if one.numa_node is not None and not 0 <= one.numa_node <= _LAST_NUMA_NODE:
            yield f"{_table(one)}.numa_node = {one.numa_node}: nodes are 0 to {_LAST_NUMA_NODE}; leave it out for none"
        if isinstance(one, Endpoint) and (one.cmb_nbytes or 0) % MIB:
            yield f"endpoint.{one.name}.cmb_nbytes = {one.cmb_nbytes}: QEMU takes whole MiB, multiples of {MIB}"


def _of_acs(qemu: Qemu, ports: Collection[RootPort]) -> Iterator[str]:
    known = [one.bdf for one in ports]
    for port in qemu.no_acs:
        if port not in known:
            yield f"qemu.no_acs: {port} is not among the root ports {', '.join(known)}; ports of switches have no ACS"
        elif qemu.arch != "x86_64":
            yield f"qemu.no_acs: {port}: the one root port without ACS is Intel's (ioh3420): QEMU's x86_64 only has it"


def _of_places(
    switches: Collection[Switch], functions: Collection[Function], ports: Collection[RootPort]
) -> Iterator[str]:
    """Domains, functions, slots; and that each port has one thing below it."""
    inner = [bdf for switch in switches for bdf in (switch.upstream, *switch.downstream)]
    for bdf in (*(one.bdf for one in ports), *inner, *(one.bdf for one in functions)):
        if not bdf.startswith("0000:"):
            yield f"qemu: {bdf}: QEMU's machines have one PCI domain, 0000"
        if not bdf.endswith(".0"):
            yield f"qemu: {bdf}: every device here has one function, 0"
    for root_port in ports:
        if root_port.bus == 0 and not 0 < device_of(root_port.bdf) <= LAST_DEVICE:
            yield f"qemu: port {root_port.bdf}: the chipset's; free on bus 0 are 0000:00:01.0 to 0000:00:1e.0"
    wanted = sum(one.bus == 0 for one in ports) + len({one.bus for one in ports} - {0}) + 1
    if wanted > LAST_DEVICE:
        yield f"qemu: {wanted} places on bus 0 for ports, other root buses and the IOMMU, where {LAST_DEVICE} are free"
    taken: dict[str, str] = {}
    for name, port in (*((one.name, one.port) for one in switches), *((one.name, one.port or "") for one in functions)):
        if port in taken:
            yield f"qemu: {taken[port]} and {name} are both under {port}, but a port has one link"
        taken[port] = name


def _of_root_buses(ports: Collection[RootPort], qemu: Qemu) -> Iterator[str]:
    last = -1
    for root, group in groupby(ports, key=lambda one: one.bus):
        inside = list(group)
        if root and qemu.arch != "x86_64":
            yield f"qemu: port {inside[0].bdf}: without ACPI the {qemu.arch} machine has one root bus, 00"
        if root <= last:
            yield (
                f"qemu: port {inside[0].bdf}: bus {root:02x} cannot be a root bus, firmware gives the numbers up to "
                f"{last:02x} to what is below the root bus before it; the next free one is {last + 1:02x}"
            )
        last = root + sum(one.buses_below for one in inside)


def _of_numbers(ports: Collection[RootPort], functions: Collection[Function]) -> Iterator[str]:
    by_port = {one.port: one for one in functions}
    for root, group in groupby(ports, key=lambda one: one.bus):
        first = root + 1
        for port in group:
            for claim in _below(port, by_port, first):
                if claim.claimed != claim.right:
                    yield (
                        f"{claim.key} = {claim.claimed!r}: the bus behind {claim.port} gets number "
                        f"{bus_of(claim.right):02x}, so it will be {claim.right!r}"
                    )
            first += port.buses_below


def _below(port: RootPort, by_port: Mapping[str | None, Function], first: int) -> Iterator[_Claim]:
    """The claims on what is behind ``port``, whose link is bus ``first``; outer ones first."""
    if port.function is not None:
        yield _Claim(f"{_table(port.function)}.bdf", port.function.bdf, f"0000:{first:02x}:00.0", port.bdf)
    if port.switch is None:
        return
    name, upstream = port.switch.name, port.switch.upstream
    yield _Claim(f"switch.{name}.upstream", upstream, f"0000:{first:02x}:00.0", port.bdf)
    for down in port.switch.downstream:
        yield _Claim(f"switch.{name}.downstream", down, f"0000:{first + 1:02x}:{device_of(down):02x}.0", upstream)
    for number, down in enumerate(sorted(port.switch.downstream), start=first + 2):
        if down in by_port:
            yield _Claim(f"{_table(by_port[down])}.bdf", by_port[down].bdf, f"0000:{number:02x}:00.0", down)


def _of_numa(switches: Collection[Switch], functions: Collection[Function]) -> Iterator[str]:
    """A NUMA node is a root bus's: the firmware tells it of pxb-pcie, and of bus 0 it tells nothing."""
    nodes: dict[int, tuple[int | None, str]] = {}
    for one in functions:
        root = root_bus_of(one, switches)
        if root == 0 and one.numa_node is not None:
            yield f"{_table(one)}.numa_node = {one.numa_node}: root bus 00 has none; use a port on another"
        node, first = nodes.setdefault(root, (one.numa_node, one.name))
        if node != one.numa_node:
            yield f"{_table(one)}.numa_node = {one.numa_node}: on the same root bus {first} has {node}"


def root_bus_of(function: Function, switches: Collection[Switch]) -> int:
    """The number of the root bus that ``function``, which has a port, hangs under."""
    above = next((one.port for one in switches if function.port in one.downstream), function.port or "")
    return bus_of(above)


def _table(one: Function) -> str:
    return f"{'gpu' if isinstance(one, Gpu) else 'endpoint'}.{one.name}"
