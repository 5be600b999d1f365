"""DMA to an address that is in no BAR: nothing is mapped there for the requester, any more or yet.

Which addresses a device may use in a translated domain is what its driver mapped (dma_map_* gives an IOVA, drivers/
iommu/dma-iommu.c); in a guest, what the VMM did. A driver that unmaps while its device still works, maps less than it
uses or for reading only, or takes a physical address without asking has its device refused: reads end in an error,
posted writes are gone without a word.
"""

from __future__ import annotations

from collections.abc import Iterable

from dmaproof.evidence.event import Event
from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import PeerWriteSeen
from dmaproof.pci.addresses import PAGE_NBYTES, Place
from dmaproof.triage import about, xids
from dmaproof.triage.refused_dma import RefusedDma, lost, refused_dma, way
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case, Confidence
from dmaproof.triage.xids import Xid

# The faults that say "not mapped, or not for this"; all others are of tables, queues, interrupts, or of no domain.
_VTD = (0x05, 0x06, 0x71, 0x79)  # dma_remap_fault_reasons, drivers/iommu/intel/dmar.c
_NAMED = ("F_TRANSLATION", "F_PERMISSION", "F_ACCESS", "F_ADDR_SIZE", "page")  # SMMUv3; virtio-iommu
_SMMUV2 = {"TF", "PF", "AFF"}
_AMD_INTERRUPT = 1 << 3  # IO_PAGE_FAULT's flags: it was an interrupt request

_ON_THE_BUS = {"ram": "on the bus that is RAM", "unclaimed": "on the bus nothing is there"}
_NOT_KNOWN = "what is there on the bus is not known"
_OF_A_GUEST = "as its guest numbers memory"
_REMEDY = (
    "Whoever maps for the requester left this out, or took it away too early: its driver; where it is given to a "
    "guest, the VMM (memory that was unplugged, lies above the IOMMU's width, or in a peer's BAR), or, under an IOMMU "
    "of the guest's own, the guest's driver. `trace-cmd record -T -e iommu:map -e iommu:unmap` shows who mapped and "
    "unmapped that address; a kernel with CONFIG_DMA_API_DEBUG tells of calls that do not match. With iommu.strict=1 "
    "(before Linux 5.14 intel_iommu=strict or amd_iommu=fullflush) the first use after an unmap is refused, not one a "
    "while later. To let DMA pass untranslated (iommu=pt; arm64: iommu.passthrough=1; neither holds behind "
    "Thunderbolt) mends nothing: it then goes wherever the address leads. Send the first line of all, what the kernel "
    "said around it and the driver's version to the driver's owner, and distrust what this device read or wrote."
)


def _match(case: Case) -> Finding | None:
    hits = [
        hit for hit in refused_dma(case, case.evidence, lambda place: _is_nobodys(case, place)) if _counts(case, hit)
    ]
    if not hits:
        return None
    astray = [xid for xid in xids.seen(case, xids.MMU_FAULT) if _led_astray(xid)]
    return Finding(
        confidence=_confidence(case, hits),
        summary=_summary(hits),
        evidence=tuple(hit.fault for hit in hits),
        explains=(*_void(case, hits), *xids.sightings(astray)),
    )


def _void(case: Case, hits: Iterable[RefusedDma]) -> tuple[Evidence, ...]:
    """Transfers that were judged by what such a device read or gave: words that nobody ever wrote say so. Where all
    that is wrong is what was there before, it was read, and the transfer's own story stands."""
    requesters = {hit.requester for hit in hits}
    return tuple(
        one
        for one, fact in lost(case)
        if requesters & set(way(fact)) and not (isinstance(fact, PeerWriteSeen) and fact.old_words == fact.wrong_words)
    )


def _led_astray(xid: Xid) -> bool:
    """A pointer of all ones, as refused reads give, or of zeros, as memory that was never written: all bits of its page
    are alike."""
    va = xid.event.va if xid.event is not None else None
    return va is not None and ((va | (PAGE_NBYTES - 1)) + 1).bit_count() == 1


def _is_nobodys(case: Case, place: Place) -> bool:
    """An address that only looks like a mailbox may be one where no BAR is known. What is reserved is firmware's, or
    where interrupts are written: no driver maps it."""
    if place.kind == "bar":
        return place.owner is None and any(gpu.bars for gpu in case.node.gpus)
    return place.kind != "reserved"


def _counts(case: Case, hit: RefusedDma) -> bool:
    """A test is not about a device that nobody names, with a PASID an address is one of a process, and a driver that
    crashed takes its mappings away under engines that run."""
    event = hit.fault.event
    if event is None or event.pasid is not None or not _says_unmapped(event):
        return False
    if hit.requester is None and case.endpoints:
        return False
    return not any(about.follows(hit.fault, crash) for crash in case.of_kind("kernel-crash"))


def _says_unmapped(event: Event) -> bool:
    if event.family == "vtd":
        return event.reason in _VTD
    if event.family == "amdvi":
        return event.event == "IO_PAGE_FAULT" and not (event.reason or 0) & _AMD_INTERRUPT
    if event.family == "smmuv2":
        return bool(_SMMUV2 & set((event.event or "").split(",")))
    return event.event in _NAMED


def _confidence(case: Case, hits: Iterable[RefusedDma]) -> Confidence:
    """Certain where all of the bus is known: then there is no other reading of the address. Probable where all BARs
    are, possible where one that is not known may be there, or the address is not the bus's."""
    if any(_is_a_guests(hit) for hit in hits):
        return "possible"
    if all(hit.place.certain for hit in hits):
        return "certain"
    return "probable" if case.addresses.claims else "possible"


def _is_a_guests(hit: RefusedDma) -> bool:
    event = hit.fault.event
    return event is not None and (event.driver == "vfio-pci" or event.stage == 2)


def _summary(hits: Iterable[RefusedDma]) -> str:
    first: dict[str, RefusedDma] = {}
    for hit in hits:
        first.setdefault(hit.who, hit)
    return f"the IOMMU refused DMA: {'; '.join(_told(requester, hit) for requester, hit in first.items())}"


def _told(requester: str, hit: RefusedDma) -> str:
    access = hit.fault.event.access if hit.fault.event is not None else None
    verb, may = {"read": ("reading", "read"), "write": ("writing", "write")}.get(access or "", ("reaching for", "use"))
    there = _OF_A_GUEST if _is_a_guests(hit) else _ON_THE_BUS.get(hit.place.kind, _NOT_KNOWN)
    return f"{requester} {verb} {hit.address:#x}, where nothing is mapped that it may {may} ({there})"


SIGNATURE = Signature(
    id="iommu-blocks-memory",
    title="The IOMMU refuses a device's DMA at an address in no BAR: nothing is mapped for it there.",
    needs="A fault of an endpoint that says not present, or no permission, at an address that is in no BAR and in no "
    "reserved region; with no topology, at one that does not look like the mailbox of a BAR0.",
    excludes="Peers' BARs and mailboxes, faults of tables, queues and interrupts, addresses with a PASID, devices that "
    "are not the test's, and what follows after a GPU was lost or the kernel crashed.",
    remedy=_REMEDY,
    references=(
        "Linux Documentation/core-api/dma-api.rst, part III: debugging drivers' use of the DMA API",
        "Linux Documentation/admin-guide/kernel-parameters.txt: iommu.strict",
    ),
    match=_match,
)
