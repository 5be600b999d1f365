"""Device memory missing from stage 2: a migration by ATS faults, is replayed, and faults again, for ever.

What defines it (revert of "vfio/listener: Skip DMA mapping for VFIO-owned RAM-device regions" in NVIDIA's QEMU): CUDA
tests without ATS pass; UVM-ATS livelocks with no IOMMU line at all; when the process is killed the driver cancels the
fault and logs Xid 31, FAULT_PTE ACCESS_TYPE_VIRT_WRITE (_READ where a read met the hole), in its own memory.
"""

from __future__ import annotations

from dmaproof.evidence.evidence import Evidence
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case, Confidence

_MMU_FAULT = 31
_REMEDY = (
    "Check that every BAR and coherent-memory range of the GPU is in the IOMMU's stage-2 tables (QEMU: trace "
    "vfio_listener_region_add and the map calls that follow; a region that is skipped or returns EFAULT is the hole), "
    "and go back to a QEMU or kernel that maps device memory. uvm_ats_mode=0 avoids the path, at the price of ATS."
)


def _match(case: Case) -> Finding | None:
    """Needs a hang on an ATS node, and either sign: counters that climb with no page moving, or the Xid on cancel."""
    if case.node.addressing != "ats" or not case.of_kind("hang"):
        return None
    climbing = tuple(one for one in case.of_kind("uvm-fault-stats") if one.data.get("climbing") and _is_own(one, case))
    cancelled = tuple(one for one in case.of_kind("xid") if _is_cancelled(one))
    inside = tuple(one for one in cancelled if _in_own_memory(one, case))
    if not climbing and not inside:
        return None
    return Finding(
        confidence=_confidence(bool(climbing), bool(inside)),
        summary=_summary(climbing, inside),
        evidence=(*case.of_kind("hang"), *climbing, *cancelled),
        blind_spots=() if cancelled else ("no Xid 31 was seen after the worker was stopped",),
    )


def _is_own(one: Evidence, case: Case) -> bool:
    """Counters are of all processes: another GPU's say nothing of this test. Without UUIDs none can be told apart."""
    uuids = {gpu.uuid for gpu in case.node.gpus if gpu.bdf in case.endpoints}
    return None in uuids or one.data.get("gpu") in uuids


def _is_cancelled(one: Evidence) -> bool:
    event = one.event
    return (
        event is not None
        and event.xid == _MMU_FAULT
        and event.fault_type == "FAULT_PTE"
        and event.access_type in ("ACCESS_TYPE_VIRT_WRITE", "ACCESS_TYPE_VIRT_READ")
    )


def _in_own_memory(one: Evidence, case: Case) -> bool:
    va = one.event.va if one.event is not None else None
    return va is not None and any(allocation.holds(va) for allocation in case.allocations)


def _confidence(climbing: bool, inside: bool) -> Confidence:
    if climbing and inside:
        return "certain"
    return "probable" if climbing else "possible"


def _summary(climbing: tuple[Evidence, ...], inside: tuple[Evidence, ...]) -> str:
    parts = ["an ATS migration never completes: device memory is missing from stage 2"]
    if climbing:
        parts.append(f"faults are replayed with no page moving ({climbing[0].text})")
    if inside and inside[0].event is not None:
        parts.append(f"the fault that was cancelled is at {inside[0].event.va:#x}, in the test's own memory")
    return "; ".join(parts)


SIGNATURE = Signature(
    id="ats-stage2-hole",
    title="Device memory is missing from stage 2: a migration by ATS faults, is replayed, and faults again, for ever.",
    needs="a hang on an ATS node with fault counters that climb while no page moves, or Xid 31 FAULT_PTE on cancel.",
    excludes="counters of other GPUs, and faults outside the test's own memory.",
    remedy=_REMEDY,
    references=('NVIDIA/QEMU: revert of "vfio/listener: Skip DMA mapping for VFIO-owned RAM-device regions"',),
    match=_match,
)
