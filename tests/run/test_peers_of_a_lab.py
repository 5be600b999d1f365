"""The field's silent drop in a lab host: drives below one switch whose calls all claim success, and whose data is lost.

The kernel hands out bus addresses (no port redirects), QEMU's switch does not route them, VT-d refuses them. With the
kernel log the verdict is the IOMMU's refusal; the same without it is a silent drop.
"""

from __future__ import annotations

import pytest

from tests.run.conftest import Finished, RunSuites
from tests.support.lab import supplied

CASE = ("suites/iommu/test_p2pdma.py", "--rig=lab:nvme-cmb-switch", "-k", "nvme1-nvme0")


@pytest.fixture(autouse=True)
def lab() -> None:
    supplied()


def test_calls_that_claimed_success_are_told_with_the_refusal(run_suites: RunSuites) -> None:
    run = run_suites(*CASE)
    assert run.signatures == {"iommu-blocks-peer-bar"}, run.output
    (verdict,) = run.record.verdicts
    assert verdict.confidence == "certain"
    assert "0000:04:00.0 reaching for 0x" in verdict.summary
    assert "in BAR2 of 0000:03:00.0; yet the calls claimed success: 65536 bytes" in verdict.summary
    assert any("DMAR: [DMA Read NO_PASID] Request device [0000:04:00.0]" in line for line in verdict.evidence)


def test_without_the_kernel_log_the_same_is_a_silent_drop(run_suites: RunSuites) -> None:
    run: Finished = run_suites(*CASE, "--withhold=kmsg")
    assert run.signatures == {"peer-writes-dropped"}, run.output
    (verdict,) = run.record.verdicts
    assert verdict.confidence == "possible"
    assert "the call claimed 65536 bytes" in verdict.summary
    assert "the kernel log is withheld on purpose (--withhold=kmsg)" in verdict.blind_spots
