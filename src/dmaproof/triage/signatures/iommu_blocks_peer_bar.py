"""A peer's memory behind a translating IOMMU: the mailbox is mapped, the BAR through which its memory is reached is
not.

Set-up then succeeds and copies "complete", but posted writes are refused one by one (FIDESlib#28, vllm#51513;
open-gpu-kernel-modules#1324 for exported dma-bufs, whose raw BAR1 addresses VT-d drops). Below a switch without ACS
Linux itself hands out raw bus addresses (drivers/pci/p2pdma.c): where that switch does not route them, they reach the
IOMMU, which knows nothing of them, and every call on the way has claimed success.
"""

from __future__ import annotations

from collections.abc import Iterable

from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import PeerReadSeen, PeerWriteSeen
from dmaproof.triage import shortfall
from dmaproof.triage.refused_dma import RefusedDma, in_window_or_before, lost, way
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case

_REMEDY = (
    "Compare `grep -i PeerMmio /proc/driver/nvidia/params` with NVreg_DmaRemapPeerMmio=1 (the default: peers' BARs are "
    "mapped for each other), and `cat /sys/bus/pci/devices/<requester>/iommu_group/type` with what you meant (DMA and "
    "DMA-FQ translate). Boot with iommu=pt (arm64: iommu.passthrough=1) to let peer traffic pass untranslated; in a "
    "guest, check that the host's VMM maps the peer's BAR for the requester. Until then: NCCL_P2P_DISABLE=1. Results "
    "computed with peer access on this machine are not to be trusted: writes were lost."
)
_REMEDY_OF_OTHERS = (
    "`dmaproof route {client} {provider}` says which way the kernel takes. Where it is `bus`, the switch between the "
    "two does not route what the kernel sends straight to the peer: put them under separate root ports, or let ports "
    "redirect (ACS), so that the kernel maps the peer's BAR. Where it is not, the BAR has to be mapped for {client} by "
    "whoever programs it (VFIO: MAP_DMA, or IOAS_MAP_FILE of its dma-buf). Or boot with iommu=pt (arm64: "
    "iommu.passthrough=1). Distrust what was moved between these devices, whatever the calls said: it was lost."
)


Moved = PeerWriteSeen | PeerReadSeen


def _match(case: Case) -> Finding | None:
    hits, now = in_window_or_before(case, lambda place: place.kind == "bar" and place.certain and not place.is_mailbox)
    if not hits:
        return None
    gone = _lost(case, hits)
    moved = tuple(one for one, _ in gone)
    return Finding(
        confidence="certain" if now else "probable",
        summary=f"the IOMMU refused peer traffic: {_routes(hits)}{_claims(fact for _, fact in gone)}",
        evidence=(*(hit.fault for hit in hits), *moved),
        explains=(*moved, *_rates(case, hits)),
        remedy=_remedy(case, hits),
    )


def _claims(gone: Iterable[Moved]) -> str:
    """What the calls said of transfers of which nothing, or not all, arrived."""
    claims = [
        f"{fact.claimed_nbytes} bytes {'written' if isinstance(fact, PeerWriteSeen) else 'read'}, of which "
        f"{fact.wrong_words} of {fact.nwords} words are wrong"
        for fact in gone
        if fact.claimed_nbytes
    ]
    return f"; yet the calls claimed success: {'; '.join(dict.fromkeys(claims))}" if claims else ""


def _remedy(case: Case, hits: Iterable[RefusedDma]) -> str | None:
    """GPUs have a driver with parameters of its own; others have the kernel's rules alone."""
    others = {one.bdf for one in case.node.endpoints}
    hit = next((hit for hit in hits if hit.requester in others), None)
    return None if hit is None else _REMEDY_OF_OTHERS.format(client=hit.requester, provider=hit.owner)


def _routes(hits: Iterable[RefusedDma]) -> str:
    routes: dict[tuple[str, str, int], list[int]] = {}
    for hit in hits:
        key = (hit.who, hit.owner or "", hit.place.bar or 0)
        routes.setdefault(key, []).append(hit.address)
    return "; ".join(
        f"{requester} reaching for {min(addresses):#x} in BAR{bar} of {owner}"
        for (requester, owner, bar), addresses in sorted(routes.items())
    )


def _pairs(hits: Iterable[RefusedDma]) -> set[frozenset[str | None]]:
    return {frozenset((hit.requester, hit.owner)) for hit in hits}


def _lost(case: Case, hits: Iterable[RefusedDma]) -> tuple[tuple[Evidence, Moved], ...]:
    ways = {(hit.requester, hit.owner) for hit in hits}
    return tuple((one, fact) for one, fact in lost(case) if way(fact) in ways or (None, fact.owner) in ways)


def _rates(case: Case, hits: Iterable[RefusedDma]) -> tuple[Evidence, ...]:
    pairs = _pairs(hits)
    return tuple(rate.evidence for rate in shortfall.rates(case) if rate.ends in pairs)


SIGNATURE = Signature(
    id="iommu-blocks-peer-bar",
    title="The IOMMU refuses traffic to a peer's memory: the BAR it is reached through is not mapped for the "
    "requester.",
    needs="A fault of one GPU, or other endpoint of the rig, at an address inside another's BAR that is not the "
    "mailbox.",
    excludes="Addresses that no known BAR holds, requesters that the rig does not name, and BARs that cannot be "
    "mapped at all (bar-unmappable).",
    remedy=_REMEDY,
    references=(
        "https://github.com/NVIDIA/open-gpu-kernel-modules/issues/1324",
        "open-gpu-kernel-modules kernel-open/nvidia/nv-dma.c: nv_dma_map_peer, nv_dma_remap_peer_mmio",
    ),
    match=_match,
)
