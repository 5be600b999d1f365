"""A peer's memory behind a translating IOMMU: the mailbox is mapped, the BAR through which its memory is reached is
not.

Set-up then succeeds and copies "complete", but posted writes are refused one by one (FIDESlib#28, vllm#51513;
open-gpu-kernel-modules#1324 for exported dma-bufs, whose raw BAR1 addresses VT-d drops).
"""

from __future__ import annotations

from collections.abc import Iterable

from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import PeerWriteSeen
from dmaproof.triage import shortfall
from dmaproof.triage.peer_faults import PeerFault, in_window_or_before
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case

_REMEDY = (
    "Compare `grep -i PeerMmio /proc/driver/nvidia/params` with NVreg_DmaRemapPeerMmio=1 (the default: peers' BARs are "
    "mapped for each other), and `cat /sys/bus/pci/devices/<requester>/iommu_group/type` with what you meant (DMA and "
    "DMA-FQ translate). Boot with iommu=pt (arm64: iommu.passthrough=1) to let peer traffic pass untranslated; in a "
    "guest, check that the host's VMM maps the peer's BAR for the requester. Until then: NCCL_P2P_DISABLE=1. Results "
    "computed with peer access on this machine are not to be trusted: writes were lost."
)


def _match(case: Case) -> Finding | None:
    hits, now = in_window_or_before(case, lambda place: place.kind == "bar" and place.certain and not place.is_mailbox)
    if not hits:
        return None
    return Finding(
        confidence="certain" if now else "probable",
        summary=f"the IOMMU refused peer traffic: {_routes(hits)}",
        evidence=(*(hit.fault for hit in hits), *_lost_writes(case, hits)),
        explains=(*_lost_writes(case, hits), *_rates(case, hits)),
    )


def _routes(hits: Iterable[PeerFault]) -> str:
    routes: dict[tuple[str, str, int], list[int]] = {}
    for hit in hits:
        key = (hit.requester or "an unnamed device", hit.owner or "", hit.place.bar or 0)
        routes.setdefault(key, []).append(hit.address)
    return "; ".join(
        f"{requester} reaching for {min(addresses):#x} in BAR{bar} of {owner}"
        for (requester, owner, bar), addresses in sorted(routes.items())
    )


def _pairs(hits: Iterable[PeerFault]) -> set[frozenset[str | None]]:
    return {frozenset((hit.requester, hit.owner)) for hit in hits}


def _lost_writes(case: Case, hits: Iterable[PeerFault]) -> tuple[Evidence, ...]:
    ways = {(hit.requester, hit.owner) for hit in hits}
    return tuple(
        one
        for one, wrote in case.facts(PeerWriteSeen)
        if wrote.wrong_words and ((wrote.writer, wrote.owner) in ways or (None, wrote.owner) in ways)
    )


def _rates(case: Case, hits: Iterable[PeerFault]) -> tuple[Evidence, ...]:
    pairs = _pairs(hits)
    return tuple(rate.evidence for rate in shortfall.rates(case) if rate.ends in pairs)


SIGNATURE = Signature(
    id="iommu-blocks-peer-bar",
    title="The IOMMU refuses traffic to a peer's memory: the BAR it is reached through is not mapped for the "
    "requester.",
    needs="A fault of one GPU at an address inside another GPU's BAR that is not the mailbox.",
    excludes="Addresses that no known BAR holds, requesters that are no GPU, and BARs that cannot be mapped at all "
    "(bar-unmappable).",
    remedy=_REMEDY,
    references=(
        "https://github.com/NVIDIA/open-gpu-kernel-modules/issues/1324",
        "open-gpu-kernel-modules kernel-open/nvidia/nv-dma.c: nv_dma_map_peer, nv_dma_remap_peer_mmio",
    ),
    match=_match,
)
