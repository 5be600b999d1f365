"""What the kernel says while a node boots."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dmaproof.rig.model import Node
from dmaproof.virtual.machine.acs import KERNEL
from dmaproof.virtual.machine.config_space import is_64_bit
from dmaproof.virtual.machine.cpu import is_arm
from dmaproof.virtual.machine.gpu import GpuModel
from dmaproof.virtual.machine.kmsg import INFO, Record
from dmaproof.virtual.machine.link import rate_Mbps, speed
from dmaproof.virtual.machine.procfs import command_line, module_id
from dmaproof.virtual.machine.topology import Function, functions, has_iommu, smmu_of

if TYPE_CHECKING:
    from dmaproof.virtual.machine.machine import Machine

_KINDS = {
    "root-port": "PCIe Root Port",
    "upstream-port": "PCIe Switch Upstream Port",
    "downstream-port": "PCIe Switch Downstream Port",
    "gpu": "PCIe Endpoint",
    "root-device": "conventional PCI endpoint",
}


def boot_lines(machine: Machine) -> Iterator[Record]:
    """In the order of a boot."""
    for text, bdf in _said(machine):
        yield text, INFO, bdf, None


def _said(machine: Machine) -> Iterator[tuple[str, str | None]]:
    node = machine.node
    yield f"Command line: {command_line(node)}", None
    before, after = _driver(node)
    for fact in (*before, *_iommu_facts(node)):
        yield fact, None
    for one in functions(node):
        for text in _function(one, machine.gpus.get(one.bdf)):
            yield f"pci {one.bdf}: {text}", one.bdf
    for fact in after:
        yield fact, None
    for number, one in enumerate(one for one in functions(node) if one.has_dpc):
        yield f"pcieport {one.bdf}: AER: enabled with IRQ {24 + number}", one.bdf
        yield f"pcieport {one.bdf}: DPC: enabled with IRQ {24 + number}", one.bdf
    yield f"NVRM: loading {module_id(node)}", None
    yield "nvidia-uvm: Loaded the UVM driver, major device number 510.", None


def _driver(node: Node) -> tuple[list[str], list[str]]:
    """What the IOMMU's driver says before and after the devices are found."""
    if not has_iommu(node):
        return [], []
    family = node.iommu.family
    if family == "vtd":
        return ["DMAR: IOMMU enabled"], ["DMAR: Intel(R) Virtualization Technology for Directed I/O"]
    if family == "amdvi":
        return [], ["AMD-Vi: Interrupt remapping enabled"]
    if family == "smmuv3":
        return [f"arm-smmu-v3 {unit}: option mask 0x0" for unit in sorted(set(smmu_of(node).values()))], []
    return [], []


def _function(one: Function, gpu: GpuModel | None) -> Iterator[str]:
    code = f"[{one.identity.vendor:04x}:{one.identity.device:04x}]"
    yield f"{code} type {int(one.is_port):02x} class {one.identity.class_code:#08x} {_KINDS[one.kind]}"
    for bar in one.gpu.bars if one.gpu else ():
        flags = " 64bit pref" if is_64_bit(bar) else ""
        yield f"BAR {bar.index} [mem {bar.address:#010x}-{bar.address + bar.nbytes - 1:#010x}{flags}]"
    if gpu is not None:
        yield from _downtraining(gpu)
    if one.group is not None:
        if one.acs is not None and one.acs != KERNEL:
            yield f"Configured ACS to {one.acs:#06x}"
        yield f"Adding to iommu group {one.group}"


def _downtraining(gpu: GpuModel) -> Iterator[str]:
    """__pcie_print_link_status, drivers/pci/pci.c. Of links that are equally slow it names the uppermost."""
    trained, offered = gpu.link.trained, gpu.rig.pcie
    if trained is None or offered is None or rate_Mbps(trained) >= rate_Mbps(offered):
        return
    have, can = (f"{rate_Mbps(link) // 1000}.{rate_Mbps(link) % 1000:03d} Gb/s" for link in (trained, offered))
    yield (
        f"{have} available PCIe bandwidth, limited by {speed(trained.generation)} x{trained.width} link at"
        f" {gpu.rig.port or gpu.bdf} (capable of {can} with {speed(offered.generation)} x{offered.width} link)"
    )


def _iommu_facts(node: Node) -> list[str]:
    """drivers/iommu/iommu.c, iommu_subsys_init."""
    if not has_iommu(node):
        return []
    if node.iommu.domain == "passthrough":
        return ["iommu: Default domain type: Passthrough (set via kernel command line)"]
    arm = is_arm(node)
    return [
        "iommu: Default domain type: Translated",
        f"iommu: DMA domain TLB invalidation policy: {'strict' if arm else 'lazy'} mode",
    ]
