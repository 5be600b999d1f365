"""What the kernel says while a node boots."""

from __future__ import annotations

from collections.abc import Iterator

from dmaproof.rig.model import Node
from dmaproof.virtual.machine.config_space import is_64_bit
from dmaproof.virtual.machine.procfs import command_line, module_id
from dmaproof.virtual.machine.topology import Function, functions, has_iommu

Line = tuple[str, str | None]
"""Text, and the device of a device's message."""


def boot_lines(node: Node) -> Iterator[Line]:
    vtd = has_iommu(node) and node.iommu.family == "vtd"
    yield f"Command line: {command_line(node)}", None
    if vtd:
        yield "DMAR: IOMMU enabled", None
    for fact in _iommu_facts(node):
        yield f"iommu: {fact}", None
    for one in functions(node):
        for text in _function(one):
            yield f"pci {one.bdf}: {text}", one.bdf
    if vtd:
        yield "DMAR: Intel(R) Virtualization Technology for Directed I/O", None
    yield f"NVRM: loading {module_id(node)}", None
    yield "nvidia-uvm: Loaded the UVM driver, major device number 510.", None


def _function(one: Function) -> Iterator[str]:
    kind = {"port": "PCIe Root Port", "gpu": "PCIe Endpoint", "root-device": "conventional PCI endpoint"}[one.kind]
    code = f"[{one.identity.vendor:04x}:{one.identity.device:04x}]"
    yield f"{code} type {int(one.kind == 'port'):02x} class {one.identity.class_code:#08x} {kind}"
    for bar in one.gpu.bars if one.gpu else ():
        flags = " 64bit pref" if is_64_bit(bar) else ""
        yield f"BAR {bar.index} [mem {bar.address:#010x}-{bar.address + bar.nbytes - 1:#010x}{flags}]"
    if one.group is not None:
        yield f"Adding to iommu group {one.group}"


def _iommu_facts(node: Node) -> list[str]:
    """drivers/iommu/iommu.c, iommu_subsys_init."""
    if not has_iommu(node):
        return []
    if node.iommu.domain == "passthrough":
        return ["Default domain type: Passthrough (set via kernel command line)"]
    arm = node.iommu.family in ("smmuv3", "smmuv2")
    return [
        "Default domain type: Translated",
        f"DMA domain TLB invalidation policy: {'strict' if arm else 'lazy'} mode",
    ]
