"""Device memory of a guest that is missing from stage 2: an audit of the VMM's maps says so, and names the range.

The regression that it is for: QEMU's listener left out regions that VFIO devices own ("vfio/listener: Skip DMA mapping
for VFIO-owned RAM-device regions", reverted in NVIDIA's QEMU). Nothing says so at run time: the audit does
(dmaproof.guest.audit), and what follows proves it: a fault of the host's IOMMU at the guest-physical address of the
hole, a peer's write that never arrives, an ATS migration that is replayed for ever.
"""

from __future__ import annotations

from collections.abc import Iterable

from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import BarConflict, Stage2Finding
from dmaproof.triage.refused_dma import lost
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.signatures import ats_stage2_hole
from dmaproof.triage.verdict import Case

_PAGE_NBYTES = 4096
_REMEDY = (
    "`dmaproof audit-trace FILE --pci QUERY_PCI.json` shows every range and its reason again. A BAR that QEMU never "
    "mmapped: take x-no-mmap=on away. A map that failed with EFAULT: the kernel cannot pin a BAR's pages; use type1 "
    "(no iommufd=), or a QEMU and a kernel that map BARs by dma-buf (VFIO_DEVICE_FEATURE_DMA_BUF). A range that was "
    "skipped: go back to a QEMU whose hw/vfio/listener.c maps device memory. A range in a reserved region, or above "
    "the IOMMU's width: move the BAR (smaller 64-bit window, -cpu phys-bits=). Until it is mapped, distrust what peers "
    "or ATS brought to that memory."
)
Hole = tuple[Evidence, Stage2Finding]


def _match(case: Case) -> Finding | None:
    holes = _holes(case)
    if not holes:
        return None
    faults = _faults(case, holes)
    holes.sort(key=lambda hole: not any(_met(one, hole[1]) for one in faults))  # those that were met come first
    transfers = _transfers(case, holes, faults)
    livelock = ats_stage2_hole.SIGNATURE.match(case)
    followed = (*livelock.evidence, *livelock.explains) if livelock is not None else ()
    proof = (*faults, *transfers, *followed)
    return Finding(
        confidence="certain" if proof else "probable",
        summary=_summary(holes, faults, transfers, livelocked=livelock is not None),
        evidence=(*(one for one, _ in holes), *faults, *transfers, *(livelock.evidence if livelock else ())),
        explains=(*proof, *_refusals(case, holes)),
    )


def _holes(case: Case) -> list[Hole]:
    """Those that may be held against the test; a BAR that lies where nothing can be mapped is bar-unmappable's."""
    elsewhere = {(fact.bdf, fact.bar) for _, fact in case.facts(BarConflict)}
    return [
        (one, fact)
        for one, fact in case.facts(Stage2Finding)
        if _concerns(case, fact) and not elsewhere & {(fact.guest, fact.bar), (fact.host, fact.bar)}
    ]


def _concerns(case: Case, hole: Stage2Finding) -> bool:
    """A range that is no known device's may be anyone's."""
    names = [one for one in (hole.guest, hole.host) if one is not None]
    return not names or any(case.concerns(one) for one in names)


def _faults(case: Case, holes: Iterable[Hole]) -> tuple[Evidence, ...]:
    """The host's faults in a hole, whoever asked: its requester is the host's name for a device of the guest."""
    return tuple(one for one in case.of_kind("iommu-fault") if any(_met(one, hole) for _, hole in holes))


def _met(fault: Evidence, hole: Stage2Finding) -> bool:
    return fault.event is not None and fault.event.address is not None and _touches(fault.event.address, hole)


def _touches(address: int, hole: Stage2Finding) -> bool:
    """VT-d tells the page alone, which may begin before a hole that begins inside it."""
    if hole.first is None or hole.last is None:
        return False
    return hole.first & -_PAGE_NBYTES <= address <= hole.last


def _transfers(case: Case, holes: Iterable[Hole], faults: Iterable[Evidence]) -> tuple[Evidence, ...]:
    """What did not arrive in memory of a device with a hole, or of any device where faults are in the hole."""
    owners = {name for _, hole in holes for name in (hole.guest, hole.host) if name is not None}
    anyone = not owners and any(True for _ in faults)
    return tuple(one for one, fact in lost(case) if anyone or fact.owner in owners)


def _refusals(case: Case, holes: Iterable[Hole]) -> tuple[Evidence, ...]:
    """The VMM's own lines about maps that failed there, or at no address that it tells."""
    refused = [hole for _, hole in holes if hole.why in ("map-failed", "reserved", "too-wide")]
    return tuple(
        one
        for one in (*case.session, *case.evidence)
        if one.kind == "bar"
        and one.event is not None
        and one.event.event == "dma-map"
        and one.event.bdf is None
        and any(one.event.address is None or _touches(one.event.address, hole) for hole in refused)
    )


def _summary(
    holes: Iterable[Hole], faults: Iterable[Evidence], transfers: Iterable[Evidence], *, livelocked: bool
) -> str:
    told = [one.text for one, _ in holes]
    parts = [f"device memory is missing from stage 2: {told[0]}"]
    if len(told) > 1:
        parts.append(f"and {len(told) - 1} more")
    hits = [event.address for one in faults if (event := one.event) is not None and event.address is not None]
    if hits:
        many = "1 access" if len(hits) == 1 else f"{len(hits)} accesses"
        parts.append(f"the host's IOMMU refused {many} there, the first at {hits[0]:#x}")
    if any(True for _ in transfers):
        parts.append("what a peer sent there was lost")
    if livelocked:
        parts.append("an ATS migration to it is replayed for ever")
    return "; ".join(parts)


SIGNATURE = Signature(
    id="stage2-hole",
    title="Device memory of a guest is missing from the IOMMU's stage-2 tables: peers and ATS fault there.",
    needs="An audit of the VMM's maps that names a range of an assigned device; certain with a fault in it, a lost "
    "transfer to that device, or an ATS migration that never completes.",
    excludes="Devices that the test does not use, and BARs that lie where nothing can be mapped (bar-unmappable).",
    remedy=_REMEDY,
    references=(
        'NVIDIA/QEMU: revert of "vfio/listener: Skip DMA mapping for VFIO-owned RAM-device regions"',
        "QEMU hw/vfio/listener.c: vfio_container_region_add",
    ),
    match=_match,
)
