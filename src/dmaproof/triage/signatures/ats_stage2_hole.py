"""Device memory missing from stage 2: a migration by ATS faults, is replayed, and faults again, for ever.

What defines it (revert of "vfio/listener: Skip DMA mapping for VFIO-owned RAM-device regions" in NVIDIA's QEMU): CUDA
tests without ATS pass; UVM-ATS livelocks with no IOMMU line at all; when the process is killed the driver cancels the
fault and logs Xid 31, FAULT_PTE ACCESS_TYPE_VIRT_WRITE (_READ or _ATOMIC as the access was), in its own memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from dmaproof.evidence.evidence import Evidence
from dmaproof.triage import paging, xids
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case, Confidence
from dmaproof.triage.xids import Xid

_REMEDY = (
    "Check that every BAR and coherent-memory range of the GPU is in the IOMMU's stage-2 tables (QEMU: trace "
    "vfio_listener_region_add and the map calls that follow; a region that is skipped or returns EFAULT is the hole), "
    "and go back to a QEMU or kernel that maps device memory. uvm_ats_mode=0 avoids the path, at the price of ATS."
)


def _match(case: Case) -> Finding | None:
    """Needs a hang on an ATS node, and either sign: counters that climb with no page moving, or the Xid on cancel."""
    if case.node.addressing != "ats" or not case.of_kind("hang"):
        return None
    climbing = tuple(one for one in paging.fault_steps(case) if one.data.get("climbing"))
    cancelled = [xid for xid in xids.seen(case, xids.MMU_FAULT) if _is_cancelled(xid)]
    inside = [xid for xid in cancelled if xids.in_own_memory(case, xid)]
    if not climbing and not inside:
        return None
    return Finding(
        confidence=_confidence(bool(climbing), bool(inside)),
        summary=_summary(climbing, inside),
        evidence=(*case.of_kind("hang"), *climbing, *xids.sightings(cancelled)),
        explains=tuple(one for xid in cancelled for one in xids.after(case, xid, *xids.VICTIMS)),
        blind_spots=() if cancelled else ("no Xid 31 was seen after the worker was stopped",),
    )


def _is_cancelled(xid: Xid) -> bool:
    event = xid.event
    return (
        event is not None
        and event.fault_type == "FAULT_PTE"
        and (event.access_type or "").startswith("ACCESS_TYPE_VIRT_")
    )


def _confidence(climbing: bool, inside: bool) -> Confidence:
    if climbing and inside:
        return "certain"
    return "probable" if climbing else "possible"


def _summary(climbing: Sequence[Evidence], inside: Sequence[Xid]) -> str:
    parts = ["an ATS migration never completes: device memory is missing from stage 2"]
    if climbing:
        parts.append(f"faults are replayed with no page moving ({climbing[0].text})")
    if inside and inside[0].event is not None:
        parts.append(f"the fault that was cancelled is at {inside[0].event.va:#x}, in the test's own memory")
    return "; ".join(parts)


SIGNATURE = Signature(
    id="ats-stage2-hole",
    title="Device memory is missing from stage 2: a migration by ATS faults, is replayed, and faults again, for ever.",
    needs="A hang on an ATS node with fault counters that climb while no page moves, or Xid 31 FAULT_PTE on cancel.",
    excludes="Counters and Xids of other GPUs, and faults outside the test's own memory.",
    remedy=_REMEDY,
    references=('NVIDIA/QEMU: revert of "vfio/listener: Skip DMA mapping for VFIO-owned RAM-device regions"',),
    match=_match,
)
