"""How AMD's IOMMU driver reports a refused DMA (drivers/iommu/amd/iommu.c, amd_iommu_report_page_fault)."""

from __future__ import annotations

from collections.abc import Mapping

from dmaproof.virtual.machine.iommu import Fault
from dmaproof.virtual.machine.kmsg import ERR, KernelLog
from dmaproof.virtual.machine.limited import Limited

_WRITE = 0x20  # EVENT_FLAG_RW; a read of an unmapped address has no flag at all


class FaultLog:
    """``domains`` has the number of each device's protection domain. Every device has a rate limit of its own
    (iommu_dev_data.rs), and what it suppresses is not logged in another form."""

    def __init__(self, log: KernelLog, domains: Mapping[str, int]) -> None:
        self._log, self._domains = log, domains
        self._limits: dict[str, Limited] = {}

    def report(self, fault: Fault, now_s: float) -> None:
        limited = self._limits.setdefault(fault.requester, Limited(self._log, "amd_iommu_report_page_fault"))
        if limited.admits(now_s):
            self._log.write(
                f"nvidia {fault.requester}: AMD-Vi: Event logged [IO_PAGE_FAULT"
                f" domain=0x{self._domains[fault.requester]:04x} address={fault.address:#x}"
                f" flags=0x{_WRITE if fault.access == 'write' else 0:04x}]",
                ERR,
                fault.requester,
            )
