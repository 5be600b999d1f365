"""The signatures, one a module. Each has an ``ID`` (a public contract) and ``match(case) -> Verdict | None``.

A signature looks only at what a real machine shows. Order does not matter: confidence ranks verdicts.
"""

from __future__ import annotations

from collections.abc import Callable

from dmaproof.triage.signatures import ats_stage2_hole, gpu_lost, iommu_blocks_p2p_mailbox, unattributed
from dmaproof.triage.verdict import Case, Verdict

Match = Callable[[Case], Verdict | None]

SIGNATURES: tuple[Match, ...] = (
    gpu_lost.match,
    iommu_blocks_p2p_mailbox.match,
    ats_stage2_hole.match,
)

FALLBACK: Callable[[Case], Verdict] = unattributed.conclude

IDS = (gpu_lost.ID, iommu_blocks_p2p_mailbox.ID, ats_stage2_hole.ID, unattributed.HANG_ID, unattributed.ID)
