"""An audited hole: what proves it, what it explains, and what it leaves to others."""

from __future__ import annotations

import pytest

from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import BarConflict
from dmaproof.triage.judge import judge
from tests.triage.cases import HANG, case, fact, named, only, seen, wrote
from tests.triage.rigs import BAR1, GPU0, GPU1, GPU2, GPU3, box
from tests.triage.symptoms import MINE, VA, left_out, mmu_fault, steps, vtd

HOLE = left_out(1)
LOST = wrote(GPU0, GPU1, wrong=256, old=256, writer_wrong=None)
FIRST, LAST = BAR1 + (1 << 40), BAR1 + (1 << 40) + (1 << 36) - 1


def test_audited_alone_it_is_probable() -> None:
    verdict = only(case(box(), HOLE))
    assert (verdict.signature, verdict.confidence) == ("stage2-hole", "probable")
    assert f"'0000:22:00.0'" in verdict.summary  # noqa: F541 - the fact's own text
    assert "audit-trace" in verdict.remedy


@pytest.mark.parametrize(
    "proof",
    [LOST, vtd(GPU0, FIRST), vtd(GPU0, LAST), vtd("0000:99:00.0", FIRST + 0x5000)],
    ids=["a lost write", "a fault at its first page", "at its last", "by a device that only the host knows"],
)
def test_what_happens_in_it_makes_it_certain_and_is_explained(proof: Evidence) -> None:
    verdict = only(case(box(), proof, HOLE))
    assert (verdict.signature, verdict.confidence) == ("stage2-hole", "certain")
    assert proof in verdict.evidence


def test_the_hosts_log_joins_by_the_guest_physical_address() -> None:
    line = (
        f"DMAR: [DMA Write NO_PASID] Request device [0000:82:00.0] fault addr {FIRST:#x} [fault reason 0x05] PTE Write"
    )
    fault = seen(f"{line} access is not set", node="the-host")
    verdict = only(case(box(), fault, HOLE))
    assert verdict.confidence == "certain"
    assert f"refused 1 access there, the first at {FIRST:#x}" in verdict.summary


def test_of_several_holes_the_one_that_was_met_is_told_first() -> None:
    first = only(case(box(), left_out(0), left_out(1), vtd(GPU0, FIRST))).summary
    assert f"'{GPU1}'" in first
    assert "and 1 more" in first


@pytest.mark.parametrize("elsewhere", [FIRST - 4096, LAST + 1])
def test_a_fault_beside_it_proves_nothing(elsewhere: int) -> None:
    assert dict(named(case(box(), vtd(GPU0, elsewhere), HOLE)))["stage2-hole"] == "probable"


def test_a_write_that_another_device_lost_proves_nothing() -> None:
    found = named(case(box(), wrote(GPU0, GPU3, wrong=256, old=256, writer_wrong=256), HOLE))
    assert found == [("peer-writes-dropped", "certain"), ("stage2-hole", "probable")]


def test_a_hole_of_a_device_that_the_test_does_not_use_is_not_named() -> None:
    assert named(case(box(), HOLE, endpoints=(GPU0, GPU2))) == [("unattributed", "possible")]
    assert named(case(box(), left_out(1, guest=None, host=GPU1), endpoints=(GPU1,)))[0][0] == "stage2-hole"
    assert named(case(box(), left_out(1, guest=None, name="hdm0"), endpoints=(GPU0,)))[0][0] == "stage2-hole"


LIVELOCK = (HANG, steps(1, faults=900, replays=900), mmu_fault(1, VA + 4096, "FAULT_PTE", "WRITE", time_s=3.0))


def test_the_hole_is_the_cause_of_a_livelock_and_there_is_one_verdict() -> None:
    ats = box("ats", "smmuv3")
    assert named(case(ats, *LIVELOCK, allocations=MINE)) == [("ats-stage2-hole", "certain")]
    verdict = only(case(ats, *LIVELOCK, HOLE, allocations=MINE))
    assert (verdict.signature, verdict.confidence) == ("stage2-hole", "certain")
    assert "an ATS migration to it is replayed for ever" in verdict.summary


def test_a_line_that_the_map_failed_is_the_same_hole() -> None:
    line = f"qemu: vfio_container_dma_map(0x5, {FIRST:#x}, 0x1000000000, 0x7f1) = -14 (Bad address)"
    one = case(box(), seen(line), left_out(1, why="map-failed", code=14))
    assert named(one) == [("stage2-hole", "probable")]
    assert {signature for signature, _ in named(case(box(), seen(line)))} == {"bar-unmappable"}


def test_a_bar_that_lies_where_nothing_is_mapped_is_named_for_its_place() -> None:
    conflict = BarConflict(bdf=GPU1, bar=1, address=FIRST, nbytes=1 << 36, why="reserved", first=FIRST, last=LAST)
    verdicts = judge(case(box(), fact(conflict), left_out(1, why="reserved")))
    assert [one.signature for one in verdicts] == ["bar-unmappable"]


def test_without_an_audit_nothing_is_called_a_hole() -> None:
    assert "stage2-hole" not in dict(named(case(box(), vtd(GPU0, FIRST), LOST, HANG)))
