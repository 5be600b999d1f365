"""BARs where peers can reach them: no reserved region over one, none wider than the IOMMU's addresses."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from dmaproof.evidence.fact import BarConflict
from dmaproof.evidence.fact_text import told
from dmaproof.pci import bar_conflicts
from fixtures.ends import End
from fixtures.state import Run


@pytest.mark.catches("bar_reserved", "viommu_width")
@pytest.mark.requires(gpus=1)
def test_bars_can_be_reached(gpu: End, run: Run) -> None:
    """By DMA of other devices: what cannot be mapped there drops it, or keeps peer access from being enabled."""
    found = bar_conflicts.of_sysfs(run.nodes[gpu.node.name].root, [gpu.gpu.bdf])
    assert found == (), "; ".join(told(BarConflict(**asdict(one))) for one in found)
