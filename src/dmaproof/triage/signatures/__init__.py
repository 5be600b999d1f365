"""The signatures, one a module; each has a ``SIGNATURE`` (dmaproof.triage.signature).

Order does not matter: floors decide who looks first, confidence ranks verdicts.
"""

from __future__ import annotations

from dmaproof.triage.signature import Signature
from dmaproof.triage.signatures import ats_stage2_hole, gpu_lost, iommu_blocks_p2p_mailbox, unattributed

SIGNATURES: tuple[Signature, ...] = (
    gpu_lost.SIGNATURE,
    iommu_blocks_p2p_mailbox.SIGNATURE,
    ats_stage2_hole.SIGNATURE,
)

IDS = (*(one.id for one in SIGNATURES), unattributed.HANG_ID, unattributed.ID)
