"""How VT-d's driver reports a refused DMA (drivers/iommu/intel/dmar.c, dmar_fault)."""

from __future__ import annotations

from dmaproof import bdf
from dmaproof.virtual.machine.iommu import PAGE_NBYTES, Fault
from dmaproof.virtual.machine.kmsg import ERR, KernelLog
from dmaproof.virtual.machine.limited import Limited

_PENDING = 2  # DMA_FSTS_PPF
_REASONS = {"write": (0x05, "PTE Write access is not set"), "read": (0x06, "PTE Read access is not set")}
_NAMES = {"write": "DMA Write", "read": "DMA Read"}


class FaultLog:
    """The fault interrupt's handler. Header, each record and the look at the next, empty record cost one turn each
    of a single rate limit; records whose turn does not print are cleared unlogged.
    """

    def __init__(self, log: KernelLog) -> None:
        self._log, self._limited = log, Limited(log, "dmar_fault")

    def report(self, fault: Fault, now_s: float) -> None:
        """One interrupt with one record in it, at ``now_s``."""
        self._turn(now_s, f"DMAR: DRHD: handling fault status reg {_PENDING:x}")
        self._turn(now_s, _record(fault))
        self._turn(now_s, None)

    def _turn(self, now_s: float, text: str | None) -> None:
        if self._limited.admits(now_s) and text is not None:
            self._log.write(text, ERR)


def _record(fault: Fault) -> str:
    """The hardware records the page, not the address."""
    reason, words = _REASONS[fault.access]
    requester = bdf.requester_id(fault.requester)
    device = f"{requester >> 8:02x}:{requester >> 3 & 0x1F:02x}.{requester & 7}"
    return (
        f"DMAR: [{_NAMES[fault.access]} NO_PASID] Request device [{device}] "
        f"fault addr {fault.address & -PAGE_NBYTES:#x} [fault reason 0x{reason:02x}] {words}"
    )
