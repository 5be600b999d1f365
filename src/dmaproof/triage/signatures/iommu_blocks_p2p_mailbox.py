"""GPUDirect's mailbox behind a translating IOMMU.

GPUs set up and synchronise PCIe peer transfers through registers of the target GPU at BAR0 + 0x139000 (NVIDIA engineer,
vfio-users, August 2017; kernel bugzilla 188271; cuda-samples#48 on AMD). The driver programs bus addresses; where the
requester's domain translates and lacks the page, the write is refused and the transfer never completes.
"""

from __future__ import annotations

from dataclasses import dataclass

from dmaproof.evidence.evidence import Evidence
from dmaproof.rig.model import Node
from dmaproof.triage.signature import Finding, Signature
from dmaproof.triage.verdict import Case, Confidence

OFFSET = 0x139000
_PAGE = 0x1000
_BAR0_ALIGNMENT = 1 << 24  # BAR0 of NVIDIA GPUs is 16 MiB, so its address leaves the low 24 bits to the offset

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


@dataclass(frozen=True, slots=True)
class _Hit:
    """A write fault at a mailbox: ``owner`` is the GPU whose BAR0 it is, or None where no topology is at hand."""

    fault: Evidence
    requester: str | None
    address: int
    owner: str | None


def _match(case: Case) -> Finding | None:
    """Named for write faults of one GPU at another's mailbox page, in the window or, for a hang whose own lines the
    kernel's rate limit may have eaten, earlier in the run by the same requester."""
    hits = _hits(case.evidence, case.node)
    if hits:
        return _finding(hits, "certain" if all(hit.owner for hit in hits) else "probable")
    earlier = [hit for hit in _hits(case.session, case.node) if hit.requester in case.endpoints]
    if earlier and case.of_kind("hang"):
        return _finding(earlier[-3:], "probable")
    return None


def _hits(evidence: tuple[Evidence, ...], node: Node) -> list[_Hit]:
    hits = []
    for one in evidence:
        event = one.event
        if event is None or event.kind != "iommu-fault" or event.access == "read" or event.address is None:
            continue
        if node.gpus and event.bdf not in {None, *(gpu.bdf for gpu in node.gpus)}:
            continue  # peer set-up is a GPU's doing: another requester there has another story
        owner = _owner(event.address, event.bdf, node)
        by_offset = not node.gpus and event.address % _BAR0_ALIGNMENT & -_PAGE == OFFSET
        if owner is not None or by_offset:
            hits.append(_Hit(one, event.bdf, event.address, owner))
    return hits


def _owner(address: int, requester: str | None, node: Node) -> str | None:
    """The GPU, other than the requester, whose mailbox page holds ``address``."""
    for gpu in node.gpus:
        for bar in gpu.bars:
            if bar.index == 0 and gpu.bdf != requester and (address - bar.address) & -_PAGE == OFFSET:
                return gpu.bdf
    return None


def _finding(hits: list[_Hit], confidence: Confidence) -> Finding:
    routes = sorted({(hit.requester or "an unnamed device", hit.owner, hit.address & -_PAGE) for hit in hits}, key=str)
    told = "; ".join(f"{requester} writing {_place(owner, address)}" for requester, owner, address in routes)
    return Finding(
        confidence=confidence,
        summary=f"the IOMMU refused GPUDirect's mailbox writes: {told}",
        evidence=tuple(hit.fault for hit in hits),
    )


def _place(owner: str | None, address: int) -> str:
    if owner is None:
        return f"{address:#x}, which is BAR0+{OFFSET:#x} of any GPU whose BAR0 is at {address - OFFSET:#x}"
    return f"{address:#x} = BAR0+{OFFSET:#x} of {owner}"


SIGNATURE = Signature(
    id="iommu-blocks-p2p-mailbox",
    title="The IOMMU refuses writes to GPUDirect's mailbox: peer transfers never get set up.",
    needs="a write fault of one GPU at BAR0 + 0x139000 of another.",
    excludes="faults of requesters that are no GPU, and of a GPU at its own BAR0.",
    remedy=_REMEDY,
    references=_REFERENCES,
    match=_match,
)
