"""A guest's stage 2 holds all memory of the devices that are assigned to it: else DMA between them, and ATS, faults."""

from __future__ import annotations

import pytest

from dmaproof.guest.audit.finding import Audit
from dmaproof.rig.model import Node


@pytest.mark.catches("stage2_hole", "bar_efault", "bar_moved")
def test_device_memory_is_mapped(node_under_test: Node, stage2: Audit) -> None:
    """By QEMU's trace of what it mapped, against where QEMU says that the guest has its BARs."""
    if not node_under_test.functions:
        pytest.skip(f"{node_under_test.name} is given no functions")
    if node_under_test.iommu.domain == "translated":
        pytest.skip(f"the IOMMU of {node_under_test.name} translates: IOVAs are the guest's own, not its BARs'")
    assert stage2.judged, f"{node_under_test.name}: no device memory was found that ought to be mapped"
    assert not stage2.findings, "; ".join(one.text for one in stage2.findings)
