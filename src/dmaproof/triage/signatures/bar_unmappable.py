"""A GPU's BAR lies where DMA cannot be mapped: in a range that firmware or the IOMMU keeps, or beyond its width.

AMD reserves 0xfd00000000-0xffffffffff (HyperTransport); a guest BAR placed there cannot be mapped
(cloud-hypervisor#8896). A 39-bit IOMMU cannot reach high BARs (cloud-hypervisor#7030). Peers then get no way to the
memory behind it.
"""

from __future__ import annotations

from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import BarConflict, PeerWriteSeen
from dmaproof.triage.refused_dma import RefusedDma, addresses, refused_dma
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case

_WHY = {
    "reserved": "inside a reserved range",
    "too-wide": "above what the IOMMU can address",
    "unassigned": "but the kernel gave it no address",
}
_REMEDY = (
    "Look at `cat /sys/bus/pci/devices/<GPU>/resource` beside `cat "
    "/sys/bus/pci/devices/<GPU>/iommu_group/reserved_regions`. Move the BAR: boot with pci=realloc, switch Above 4G "
    "Decoding / Resizable BAR or the MMIO High Base in firmware below the range, in a guest give a smaller 64-bit "
    "window (QEMU: -cpu phys-bits=, pcie-root-port pref64-reserve=; OVMF: opt/ovmf/X-PciMmio64Mb). A 39-bit IOMMU "
    "(VT-d MGAW) needs BARs below 512 GiB."
)


def _match(case: Case) -> Finding | None:
    conflicts = [(one, fact) for one, fact in case.facts(BarConflict) if case.concerns(fact.bdf)]
    lines = [one for one in (*case.session, *case.evidence) if _concerns(case, one)]
    if not conflicts and not lines:
        return None
    bars: set[tuple[str, int | None]] = {(fact.bdf, fact.bar) for _, fact in conflicts} | {
        bar for one in lines if (bar := _bar_of(case, one))
    }
    explained = _explained(case, bars)
    certain = bool(conflicts) and bool(lines or explained)
    told = [_told(fact) for _, fact in conflicts] or [_told_line(case, one) for one in lines]
    return Finding(
        confidence="certain" if certain else "probable",
        summary="; ".join(dict.fromkeys(told)),
        evidence=(*(one for one, _ in conflicts), *lines, *explained),
        explains=explained,
    )


def _bar_of(case: Case, one: Evidence) -> tuple[str, int | None] | None:
    """The GPU's BAR that a line about BARs is of, None where it is another device's.

    A failed map is known by its address: the line names who was to reach it (nv_dma_map_mmio), or nobody (QEMU).
    Bridges and other devices are often refused a BAR at boot, and no GPU's peer minds.
    """
    event = one.event
    if one.kind != "bar" or event is None:
        return None
    if event.event == "dma-map":
        place = addresses(case).resolve(event.address) if event.address is not None else None
        return (place.owner, place.bar) if place is not None and place.owner and place.kind == "bar" else None
    return (event.bdf, event.reason) if event.bdf in {gpu.bdf for gpu in case.node.gpus} else None


def _concerns(case: Case, one: Evidence) -> bool:
    found = _bar_of(case, one)
    return found is not None and case.concerns(found[0])


def _explained(case: Case, bars: set[tuple[str, int | None]]) -> tuple[Evidence, ...]:
    """The faults at such a BAR, and the peer writes that did not reach the memory behind it."""
    owners = {owner for owner, _ in bars}
    faults: tuple[RefusedDma, ...] = refused_dma(case, case.evidence, lambda place: (place.owner, place.bar) in bars)
    writes = [one for one, wrote in case.facts(PeerWriteSeen) if wrote.owner in owners and wrote.wrong_words]
    return (*(hit.fault for hit in faults), *writes)


def _told(one: BarConflict) -> str:
    where = f" at {one.address:#x}" if one.address is not None else ""
    kept = f" {one.first:#x}-{one.last:#x}" if one.first is not None and one.last is not None else ""
    return f"BAR{one.bar} of {one.bdf}{where} lies {_WHY[one.why]}{kept}: it cannot be mapped for a peer's DMA"


def _told_line(case: Case, one: Evidence) -> str:
    owner, bar = _bar_of(case, one) or ("a GPU", None)
    which = "a BAR" if bar is None else f"BAR{bar}"
    return f"{which} of {owner} cannot be mapped for DMA, says the log: {one.text}"


SIGNATURE = Signature(
    id="bar-unmappable",
    title="A GPU's BAR lies where DMA cannot be mapped: peers cannot reach the memory behind it.",
    needs="A GPU's BAR inside a reserved region, above the IOMMU's width or without an address, or a line that it "
    "could not be mapped.",
    excludes="BARs of bridges and of other devices.",
    remedy=_REMEDY,
    references=(
        "https://github.com/cloud-hypervisor/cloud-hypervisor/issues/8896",
        "https://github.com/cloud-hypervisor/cloud-hypervisor/issues/7030",
    ),
    match=_match,
)
