"""How the kind of an endpoint is known on the bus."""

from __future__ import annotations

from collections.abc import Mapping

from dmaproof.pci.sysfs import PciFunction
from dmaproof.rig.hardware import EndpointKind

_NVME = 0x010802  # PCI_CLASS_STORAGE_EXPRESS, include/linux/pci_ids.h: whoever made the drive
_IDS: Mapping[str, tuple[int, int]] = {
    "edu": (0x1234, 0x11E8),  # QEMU, hw/misc/edu.c
    "iommu-testdev": (0x1B36, 0x0005),  # QEMU, hw/misc/iommu-testdev.c: the id that all of its test devices have
    "igb": (0x8086, 0x10C9),  # Intel 82576, which QEMU's igb is
}


def mismatch(function: PciFunction, kind: EndpointKind) -> str | None:
    """What ``function`` is instead of an endpoint of ``kind``, in a sentence; None where it is one."""
    if kind == "nvme":
        if function.class_code == _NVME:
            return None
        return f"{function.bdf} has class {function.class_code:06x}, an NVMe drive {_NVME:06x}"
    vendor, device = _IDS[kind]
    if (function.vendor, function.device) == (vendor, device):
        return None
    found = f"{function.vendor:04x}:{function.device:04x}"
    return f"{function.bdf} is {found}, where the rig declares {kind}, {vendor:04x}:{device:04x}"
