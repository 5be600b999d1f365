"""How VT-d's driver reports a refused DMA (drivers/iommu/intel/dmar.c, dmar_fault)."""

from __future__ import annotations

from collections.abc import Callable

from dmaproof import bdf
from dmaproof.virtual.machine.iommu import Fault
from dmaproof.virtual.machine.kmsg import ERR, WARNING, KernelLog
from dmaproof.virtual.machine.ratelimit import RateLimit

FaultReporter = Callable[[Fault, float], None]
_PENDING = 2  # DMA_FSTS_PPF
_REASONS = {"write": (0x05, "PTE Write access is not set"), "read": (0x06, "PTE Read access is not set")}
_NAMES = {"write": "DMA Write", "read": "DMA Read"}


class FaultLog:
    """The fault interrupt's handler. Header, each record and the look at the next, empty record cost one turn each
    of a single rate limit; records whose turn does not print are cleared unlogged.
    """

    def __init__(self, log: KernelLog, limit: RateLimit | None = None) -> None:
        self._log = log
        self._limit = limit or RateLimit()

    def report(self, fault: Fault, now_s: float) -> None:
        """One interrupt with one record in it, at ``now_s``."""
        self._turn(now_s, f"DMAR: DRHD: handling fault status reg {_PENDING:x}")
        self._turn(now_s, _record(fault))
        self._turn(now_s, None)

    def _turn(self, now_s: float, text: str | None) -> None:
        admission = self._limit.admit(now_s)
        if admission.suppressed:
            self._log.write(f"dmar_fault: {admission.suppressed} callbacks suppressed", WARNING)
        if admission.allowed and text is not None:
            self._log.write(text, ERR)


def _record(fault: Fault) -> str:
    reason, words = _REASONS[fault.access]
    requester = bdf.requester_id(fault.requester)
    device = f"{requester >> 8:02x}:{requester >> 3 & 0x1F:02x}.{requester & 7}"
    return (
        f"DMAR: [{_NAMES[fault.access]} NO_PASID] Request device [{device}] "
        f"fault addr {fault.address:#x} [fault reason 0x{reason:02x}] {words}"
    )
