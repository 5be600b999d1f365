"""Posted writes to a peer vanish: the owner still finds what was there before, and nobody reports anything.

canAccessPeer says yes, the copy "succeeds" (FIDESlib#28, vllm#51513). Root complexes that claim peer traffic and
forward none behave so, as do ACS settings that send it to one. Only the owner's own read shows it.
"""

from __future__ import annotations

from dmaproof.evidence.fact import PeerWriteSeen, RouteSeen
from dmaproof.triage.refused_dma import lost, way
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case, Confidence

_MAYBE_UNSEEN = "a fault line may have been lost: with one, this would be the IOMMU's refusal, not a silent loss"
_REMEDY = (
    "Do not use PCIe peer access between these GPUs (NCCL_P2P_DISABLE=1; CUDA: leave cuCtxEnablePeerAccess out) until "
    "the platform vendor says that its root complex forwards peer memory writes between these root ports, and with "
    "which firmware setting. `dmaproof route {client} {provider}` says which port the traffic passes; if ACS redirects "
    "it there, boot with pci=disable_acs_redir=<that port>, else try iommu=pt, and move both GPUs under one PCIe "
    "switch. Distrust what was computed with peer access on this machine: writes were lost."
)
_REMEDY_OF_OTHERS = (
    "Do not use peer-to-peer DMA between these devices. `dmaproof route {client} {provider}` says which way the "
    "kernel takes and which port decides it: a `bus` route needs a switch that routes between its ports, one by the "
    "host bridge a root complex that forwards between its own. Read the kernel log for faults of {client}: an IOMMU "
    "that refuses the writes says so only there. Distrust what was moved between them, whatever the calls said: it was "
    "lost."
)


def _match(case: Case) -> Finding | None:
    writes = [(one, fact) for one, fact in case.facts(PeerWriteSeen) if _is_dropped(fact) and not _faulted(case, fact)]
    if not writes:
        return None
    _, first = writes[0]
    routes = tuple(one for one, fact in case.facts(RouteSeen) if {fact.client, fact.provider} == _ends(first))
    return Finding(
        confidence=_confidence(case, [fact for _, fact in writes]),
        summary="; ".join(dict.fromkeys(_told(fact) for _, fact in writes)),
        evidence=(*(one for one, _ in writes), *routes),
        explains=tuple(one for one, fact in lost(case) if set(way(fact)) == _ends(first)),
        blind_spots=(_MAYBE_UNSEEN,) if _may_have_lost_lines(case) else (),
        remedy=_remedy(case, first),
    )


def _remedy(case: Case, wrote: PeerWriteSeen) -> str:
    others = {one.bdf for one in case.node.endpoints}
    words = _REMEDY_OF_OTHERS if wrote.writer in others else _REMEDY
    return words.format(client=wrote.writer, provider=wrote.owner)


def _is_dropped(wrote: PeerWriteSeen) -> bool:
    return wrote.wrong_words > 0 and wrote.old_words > 0 and wrote.writer_wrong_words != 0


def _faulted(case: Case, wrote: PeerWriteSeen) -> bool:
    faults = case.of_kind("iommu-fault")
    return any(one.event is not None and one.event.bdf in (None, wrote.writer) for one in faults)


def _ends(wrote: PeerWriteSeen) -> set[str]:
    return {wrote.writer, wrote.owner}


def _may_have_lost_lines(case: Case) -> bool:
    blind = any(one.source == "kmsg" for one in case.of_kind("blind-spot"))
    return (
        blind
        or bool(case.of_kind("suppressed", "records-lost", "overflow"))
        or any(one.event is not None and one.event.overflow for one in case.of_kind("fault-status"))
    )


def _confidence(case: Case, writes: list[PeerWriteSeen]) -> Confidence:
    """Two observers make it certain: the owner and the writer, with a kernel log that lost nothing."""
    if _may_have_lost_lines(case):
        return "possible"
    both_see_it = all(wrote.writer_wrong_words and wrote.old_words == wrote.wrong_words for wrote in writes)
    return "certain" if both_see_it else "probable"


def _told(wrote: PeerWriteSeen) -> str:
    return (
        f"writes of {wrote.writer} ({wrote.by}) into memory of {wrote.owner} vanish: {wrote.old_words} of "
        f"{wrote.nwords} words still hold what was there before{wrote.claim}, and no fault was reported"
    )


SIGNATURE = Signature(
    id="peer-writes-dropped",
    title="Writes to a peer's memory vanish silently: the owner still sees the old data.",
    needs="The owner's own read finds old data where the peer wrote.",
    excludes="A writer that reads its own data back (peer-mirror), and any IOMMU fault of the writer.",
    remedy=_REMEDY.format(client="WRITER", provider="OWNER"),
    references=("https://github.com/vllm-project/vllm/issues/51513", "FIDESlib issue 28"),
    match=_match,
)
