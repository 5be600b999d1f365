"""A mirror: the writer reads its own data back through the peer mapping, yet the owner's memory never changed.

Seen in VFIO guests whose GPUs share a GPUDirect clique id (nccl#2335): no Xid, no IOMMU line; a test that verifies in
the writer's context passes.
"""

from __future__ import annotations

from dmaproof.evidence.fact import PeerWriteSeen
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case

_REMEDY = (
    "Distrust every check that reads through the writer's mapping: only the owner's local read counts. In a guest, "
    "take the GPUs out of their clique (QEMU: remove x-nv-gpudirect-clique from both vfio-pci devices) so that the "
    "driver stages through the host, or NCCL_P2P_DISABLE=1. On the host, trace where the peer's BAR is mapped (QEMU: "
    "-trace 'vfio_listener_region_add*') and report with `dmaproof route` of the two functions: the GPUs must sit "
    "under one switch, without ACS redirect, for the clique to be true."
)


def _match(case: Case) -> Finding | None:
    mirrored = [(one, fact) for one, fact in case.facts(PeerWriteSeen) if _is_mirror(fact)]
    if not mirrored:
        return None
    whole = all(fact.wrong_words == fact.nwords for _, fact in mirrored)
    return Finding(
        confidence="certain" if whole else "probable",
        summary="; ".join(dict.fromkeys(_told(fact) for _, fact in mirrored)),
        evidence=tuple(one for one, _ in mirrored),
    )


def _is_mirror(wrote: PeerWriteSeen) -> bool:
    return wrote.wrong_words > 0 and wrote.writer_wrong_words == 0


def _told(wrote: PeerWriteSeen) -> str:
    return (
        f"{wrote.writer} ({wrote.by}) reads its own data back through its mapping of {wrote.owner}, whose memory "
        f"has {wrote.wrong_words} of {wrote.nwords} words wrong{wrote.claim}: the window is a mirror, "
        "not that GPU's memory"
    )


SIGNATURE = Signature(
    id="peer-mirror",
    title="The writer reads its own data back through the peer mapping, while the owner's memory never changed.",
    needs="The owner finds wrong words where the writer, through its mapping, finds none.",
    excludes="A writer that does not see its data either (peer-writes-dropped).",
    remedy=_REMEDY,
    references=("https://github.com/NVIDIA/nccl/issues/2335",),
    match=_match,
)
