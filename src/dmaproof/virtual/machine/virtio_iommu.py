"""How the virtio-iommu driver reports a refused DMA (drivers/iommu/virtio-iommu.c, viommu_fault_handler)."""

from __future__ import annotations

from dmaproof import bdf
from dmaproof.virtual.machine.iommu import Fault
from dmaproof.virtual.machine.kmsg import ERR, KernelLog
from dmaproof.virtual.machine.limited import Limited

_DEVICE = "virtio0"


class FaultLog:
    """The device says what was missing, not what was tried: QEMU sets no access flags for an unmapped address."""

    def __init__(self, log: KernelLog) -> None:
        self._log, self._limited = log, Limited(log, "viommu_fault_handler")

    def report(self, fault: Fault, now_s: float) -> None:
        if self._limited.admits(now_s):
            endpoint = bdf.requester_id(fault.requester)
            text = f"virtio_iommu {_DEVICE}: page fault from EP {endpoint} at {fault.address:#x} []"
            self._log.write(text, ERR, device=("virtio", _DEVICE))
