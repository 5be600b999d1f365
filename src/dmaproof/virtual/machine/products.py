"""What the hardware of a rig identifies itself as (pci.ids). A product that is not listed reads as an unassigned id."""

from __future__ import annotations

from dataclasses import dataclass

from dmaproof.rig.model import Node

NVIDIA = 0x10DE
_CLASS_3D, _CLASS_VGA = 0x030200, 0x030000
_CLASS_HOST_BRIDGE, _CLASS_SYSTEM_PERIPHERAL, CLASS_PCI_BRIDGE = 0x060000, 0x088000, 0x060400


@dataclass(frozen=True, slots=True)
class Identity:
    vendor: int
    device: int
    class_code: int
    revision: int = 0
    driver: str | None = None


UNKNOWN_GPU = Identity(NVIDIA, 0xFFFE, _CLASS_3D, 0xA1, "nvidia")
_GPUS = {
    "NVIDIA A100-SXM4-80GB": (0x20B2, _CLASS_3D),
    "NVIDIA RTX A6000": (0x2230, _CLASS_VGA),
    "NVIDIA GeForce RTX 4090": (0x2684, _CLASS_VGA),
    "NVIDIA L40S": (0x26B9, _CLASS_3D),
    "NVIDIA L4": (0x27B8, _CLASS_3D),
    "NVIDIA H100 80GB HBM3": (0x2330, _CLASS_3D),
    "NVIDIA H100 PCIe": (0x2331, _CLASS_3D),
    "NVIDIA H200": (0x2335, _CLASS_3D),
    "NVIDIA GH200 480GB": (0x2342, _CLASS_3D),
    "NVIDIA B200": (0x2901, _CLASS_3D),
}
_INTEL_PORT = Identity(0x8086, 0x2030, CLASS_PCI_BRIDGE, 0x07, "pcieport")
_AMD_PORT = Identity(0x1022, 0x1483, CLASS_PCI_BRIDGE, 0, "pcieport")
_GRACE_PORT = Identity(NVIDIA, 0x22B2, CLASS_PCI_BRIDGE, 0, "pcieport")
_GUEST_PORT = Identity(0x1B36, 0x000C, CLASS_PCI_BRIDGE, 0, "pcieport")
SWITCH_PORT = Identity(0x10B5, 0x9797, CLASS_PCI_BRIDGE, 0xAA, "pcieport")
"""A PEX 9797: upstream and downstream ports alike."""
_INTEL_ROOT = Identity(0x8086, 0x09A2, _CLASS_SYSTEM_PERIPHERAL, 0x04)
_AMD_ROOT = Identity(0x1022, 0x1480, _CLASS_HOST_BRIDGE)
_GUEST_ROOT = Identity(0x8086, 0x29C0, _CLASS_HOST_BRIDGE)


def gpu(product: str | None) -> Identity:
    if product not in _GPUS:
        return UNKNOWN_GPU
    device, class_code = _GPUS[product]
    return Identity(NVIDIA, device, class_code, 0xA1, "nvidia")


def port(node: Node) -> Identity:
    """The root ports of the platform that ``node``'s IOMMU belongs to."""
    if node.role == "guest":
        return _GUEST_PORT
    return {"amdvi": _AMD_PORT, "smmuv3": _GRACE_PORT, "smmuv2": _GRACE_PORT}.get(node.iommu.family, _INTEL_PORT)


def root_device(node: Node) -> Identity | None:
    """Device 00.0 of every root bus; Arm hosts have none: their root ports begin at 00.0."""
    if node.role == "guest":
        return _GUEST_ROOT
    return {"amdvi": _AMD_ROOT, "smmuv3": None, "smmuv2": None}.get(node.iommu.family, _INTEL_ROOT)
