"""The signatures, one a module; each has a ``SIGNATURE`` (dmaproof.triage.signature).

Order counts within a floor: what one explains, those after it no longer see. What breaks more comes first.
"""

from __future__ import annotations

from dmaproof.triage.signature import Signature
from dmaproof.triage.signatures import (
    acs_redirects_p2p,
    application_fault,
    ats_setup_failed,
    ats_stage2_hole,
    bar_unmappable,
    bystander,
    console_flood,
    dpc_containment,
    driver_stuck,
    ecc_contained,
    ecc_uncorrectable,
    gpu_lost,
    gpu_recovery_required,
    gsp_timeout,
    hmm_shared_atomics,
    iommu_blocks_memory,
    iommu_blocks_p2p_mailbox,
    iommu_blocks_peer_bar,
    kernel_crash,
    node_lost,
    nvlink_degraded,
    nvlink_fatal,
    p2p_slower_than_host,
    pcie_aer_storm,
    pcie_link_degraded,
    peer_mirror,
    peer_writes_dropped,
    row_remap_pending,
    stage2_hole,
    unattributed,
    uvm_service_stuck,
    uvm_thrashing,
)

SIGNATURES: tuple[Signature, ...] = (
    kernel_crash.SIGNATURE,
    dpc_containment.SIGNATURE,
    gpu_lost.SIGNATURE,
    ecc_uncorrectable.SIGNATURE,
    gsp_timeout.SIGNATURE,
    nvlink_fatal.SIGNATURE,
    ecc_contained.SIGNATURE,
    row_remap_pending.SIGNATURE,
    pcie_link_degraded.SIGNATURE,
    pcie_aer_storm.SIGNATURE,
    nvlink_degraded.SIGNATURE,
    acs_redirects_p2p.SIGNATURE,
    stage2_hole.SIGNATURE,
    bar_unmappable.SIGNATURE,
    iommu_blocks_p2p_mailbox.SIGNATURE,
    iommu_blocks_peer_bar.SIGNATURE,
    iommu_blocks_memory.SIGNATURE,
    peer_writes_dropped.SIGNATURE,
    peer_mirror.SIGNATURE,
    ats_stage2_hole.SIGNATURE,
    ats_setup_failed.SIGNATURE,
    hmm_shared_atomics.SIGNATURE,
    uvm_service_stuck.SIGNATURE,
    driver_stuck.SIGNATURE,
    uvm_thrashing.SIGNATURE,
    p2p_slower_than_host.SIGNATURE,
    gpu_recovery_required.SIGNATURE,
    node_lost.SIGNATURE,
    console_flood.SIGNATURE,
    application_fault.SIGNATURE,
    bystander.SIGNATURE,
)

IDS = (*(one.id for one in SIGNATURES), unattributed.HANG_ID, unattributed.ID)
