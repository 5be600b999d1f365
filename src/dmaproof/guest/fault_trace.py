"""QEMU's own word on DMA that its IOMMU refuses: trace events of refusals alone, nothing for a translation.

It owes nothing to the kernel: no rate limit, no register that was still full, no driver that reads it wrongly. What the
lines look like is said where they are read (dmaproof.evidence.qemu_faults).
"""

from __future__ import annotations

from dmaproof.guest.folder import TRACE

_EVENTS = ("vtd_dmar_fault*", "amdvi_page_fault*", "virtio_iommu_report_fault*", "smmuv3_*_event*")
"""As patterns, because QEMU complains of a name that it does not know, of a pattern never (trace/control.c): a QEMU for
arm64 has no VT-d, and what an SMMU records is ``smmuv3_propagate_event`` in QEMU 11 and was ``smmuv3_record_event``."""


def options() -> tuple[str, ...]:
    """What makes QEMU write them into ``TRACE``, each with its time.

    The complaints about what a guest does (``-d guest_errors``) go there too: with an SMMU, only they have the address.
    """
    events = (word for event in _EVENTS for word in ("-trace", event))
    return ("-D", TRACE, "-d", "guest_errors", "-msg", "timestamp=on", *events)
