"""What could not be seen in a case. A verdict without it would claim more than was looked at."""

from __future__ import annotations

from dmaproof.triage.verdict import Case


def blind_spots(case: Case) -> tuple[str, ...]:
    """One sentence a gap, without repeats, in the order they were met."""
    spots = [one.text for one in case.evidence if one.kind in ("blind-spot", "records-lost")]
    for one in case.of_kind("suppressed"):
        count = one.event.count if one.event else None
        spots.append(f"the kernel suppressed {count} lines: what they said is lost ({one.text})")
    if any(one.event is not None and one.event.overflow for one in case.of_kind("fault-status", "overflow")):
        spots.append("the IOMMU's fault log overflowed: faults were lost before the kernel saw them")
    if case.node.addressing == "ats":
        spots.append(
            "ATS: a translation request that fails is normally not logged by the IOMMU: its silence proves nothing"
        )
    if case.node.role == "guest":
        spots.append("guest: IOMMU faults are logged on the host, which was not read")
    return tuple(dict.fromkeys(spots))
