"""GPUDirect's mailbox behind a translating IOMMU.

GPUs set up and synchronise PCIe peer transfers through registers of the target GPU at BAR0 + 0x139000 (NVIDIA engineer,
vfio-users, August 2017; kernel bugzilla 188271; cuda-samples#48 on AMD). The driver programs bus addresses; where the
requester's domain translates and lacks the page, the write is refused and the transfer never completes.
"""

from __future__ import annotations

from collections.abc import Iterable

from dmaproof.pci.addresses import MAILBOX_OFFSET, Place
from dmaproof.triage.refused_dma import RefusedDma, in_window_or_before
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case

_PAGE = -0x1000
_REMEDY = (
    "Use a driver that maps its peers in the IOMMU (parameter NVreg_DmaRemapPeerMmio=1, its default; see "
    "/proc/driver/nvidia/params), or let DMA pass untranslated (iommu=pt, or intel_iommu=off / amd_iommu=off, which "
    "also ends the isolation that VFIO guests rely on); until then run without PCIe peer access (NCCL_P2P_DISABLE=1)."
)
_REFERENCES = (
    "vfio-users, August 2017",
    "https://bugzilla.kernel.org/show_bug.cgi?id=188271",
    "https://github.com/NVIDIA/cuda-samples/issues/48",
)


def _match(case: Case) -> Finding | None:
    """Named for write faults of one GPU at another's mailbox page, in the window or, for a hang whose own lines the
    kernel's rate limit may have eaten, earlier in the run by the same requester."""
    found, now = in_window_or_before(case, lambda place: place.is_mailbox and _may_be_guessed(place, case))
    hits = [hit for hit in found if hit.fault.event is not None and hit.fault.event.access != "read"]
    if not hits:
        return None
    return Finding(
        confidence="certain" if now and all(hit.place.certain for hit in hits) else "probable",
        summary=f"the IOMMU refused GPUDirect's mailbox writes: {_routes(hits)}",
        evidence=tuple(hit.fault for hit in hits),
    )


def _may_be_guessed(place: Place, case: Case) -> bool:
    """The low bits name a mailbox only where no GPU's BARs are known: a rig that knows them knows all peers."""
    return place.certain or not any(gpu.bars for gpu in case.node.gpus)


def _routes(hits: Iterable[RefusedDma]) -> str:
    routes = {(hit.who, hit.owner or "", hit.address & _PAGE) for hit in hits}
    return "; ".join(f"{requester} writing {_place(owner, address)}" for requester, owner, address in sorted(routes))


def _place(owner: str, address: int) -> str:
    if not owner:
        return (
            f"{address:#x}, which is BAR0+{MAILBOX_OFFSET:#x} of any GPU whose BAR0 is at {address - MAILBOX_OFFSET:#x}"
        )
    return f"{address:#x} = BAR0+{MAILBOX_OFFSET:#x} of {owner}"


SIGNATURE = Signature(
    id="iommu-blocks-p2p-mailbox",
    title="The IOMMU refuses writes to GPUDirect's mailbox: peer transfers never get set up.",
    needs="A write fault of one GPU at BAR0 + 0x139000 of another; with no topology, at an address that ends so.",
    excludes="Reads, requesters that are no GPU, and a GPU's own BAR0.",
    remedy=_REMEDY,
    references=_REFERENCES,
    match=_match,
)
