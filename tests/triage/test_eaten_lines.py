"""The kernel's rate limit eats fault lines: what an earlier test of the run saw of the same two GPUs still counts."""

from __future__ import annotations

import pytest

from tests.triage.cases import case, named
from tests.triage.rigs import BAR1, GPU0, GPU1, GPU2, box
from tests.triage.symptoms import dropped, vtd

AT_GPU1 = BAR1 + (1 << 40) + 0x4000


def test_lost_writes_after_a_fault_at_the_same_peers_memory() -> None:
    one = case(box(), *dropped(0), endpoints=(GPU0, GPU1), session=(vtd(GPU0, AT_GPU1),))
    assert named(one) == [("iommu-blocks-peer-bar", "probable")]


@pytest.mark.parametrize(
    "earlier", [vtd(GPU2, AT_GPU1), vtd(GPU0, BAR1 + (2 << 40) + 0x4000)], ids=["another requester", "another owner"]
)
def test_other_devices_faults_explain_nothing(earlier) -> None:  # type: ignore[no-untyped-def]
    one = case(box(), *dropped(0), endpoints=(GPU0, GPU1), session=(earlier,))
    assert [signature for signature, _ in named(one)] == ["peer-writes-dropped"]
