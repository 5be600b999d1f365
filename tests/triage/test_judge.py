"""Triage on cases built from decoded real lines: what is named, how surely, and what is never named."""

from __future__ import annotations

import pytest

from dmaproof.evidence.evidence import Evidence
from dmaproof.rig import load
from dmaproof.triage.judge import judge
from dmaproof.triage.verdict import Allocation, Case
from tests.triage.cases import HANG, case, named, observed, seen

MAILBOX = "DMAR: [DMA Write] Request device [04:00.0] fault addr f8139000 [fault reason 05] PTE Write access is not set"
CANCELLED = (
    "NVRM: Xid (PCI:0009:01:00): 31, pid=77, name=python3, Ch 00000008, intr 00000000. MMU Fault: ENGINE CE0 "
    "HUBCLIENT_CE0 faulted @ 0x7f12_34560000. Fault is of type FAULT_PTE ACCESS_TYPE_VIRT_WRITE"
)
VA = 0x7F12_3456_0000


UUID = load.load("virtual:gh200").nodes[0].gpus[0].uuid
CLIMBING = observed("uvm-fault-stats", climbing=True, gpu=UUID)


def test_a_write_at_the_peers_mailbox_is_certain() -> None:
    (verdict,) = judge(case("virtual:pcie-pair", HANG, seen(MAILBOX)))
    assert (verdict.signature, verdict.confidence) == ("iommu-blocks-p2p-mailbox", "certain")
    assert "0000:04:00.0 writing 0xf8139000 = BAR0+0x139000 of 0000:82:00.0" in verdict.summary
    assert verdict.evidence[0].text.endswith("PTE Write access is not set")


@pytest.mark.parametrize(
    "line",
    [
        MAILBOX.replace("DMA Write", "DMA Read").replace("reason 05", "reason 06"),
        MAILBOX.replace("f8139000", "f6139000"),  # the requester's own BAR0
        MAILBOX.replace("[04:00.0]", "[05:00.0]"),  # not a GPU of this rig
    ],
)
def test_other_faults_are_not_the_mailbox(line: str) -> None:
    assert named(case("virtual:pcie-pair", HANG, seen(line))) == [("unattributed-hang", "possible")]


def test_a_hang_whose_lines_were_suppressed_leans_on_the_run_so_far() -> None:
    earlier = (seen(MAILBOX, 0.1),)
    assert named(case("virtual:pcie-pair", HANG, session=earlier)) == [("iommu-blocks-p2p-mailbox", "probable")]
    assert named(case("virtual:pcie-pair", session=earlier)) == [("unattributed", "possible")]
    other = case("virtual:pcie-pair", HANG, session=earlier, endpoints=("0000:82:00.0",))
    assert named(other) == [("unattributed-hang", "possible")]


def ats(*evidence: Evidence, va: int = VA - 4096) -> Case:
    return case("virtual:gh200", *evidence, allocations=(Allocation(va, 1 << 20, "malloc"),))


def test_stage2_hole_grows_surer_with_each_sign() -> None:
    assert named(ats(HANG, CLIMBING, seen(CANCELLED))) == [("ats-stage2-hole", "certain")]
    assert named(ats(HANG, CLIMBING)) == [("ats-stage2-hole", "probable")]
    assert named(ats(HANG, seen(CANCELLED))) == [("ats-stage2-hole", "possible")]


def test_stage2_hole_needs_a_hang_ats_and_the_tests_own_memory() -> None:
    assert "ats-stage2-hole" not in dict(named(ats(CLIMBING, seen(CANCELLED))))
    assert "ats-stage2-hole" not in dict(named(ats(HANG, seen(CANCELLED), va=VA + 4096)))
    assert "ats-stage2-hole" not in dict(named(ats(HANG, seen(CANCELLED.replace("FAULT_PTE", "FAULT_PDE")))))
    assert "ats-stage2-hole" not in dict(named(case("virtual:hgx-h100", HANG, CLIMBING)))
    assert "ats-stage2-hole" not in dict(named(ats(HANG, observed("uvm-fault-stats", climbing=False, gpu=UUID))))
    assert "ats-stage2-hole" not in dict(named(ats(HANG, observed("uvm-fault-stats", climbing=True, gpu="GPU-other"))))


LOST_LINE = "NVRM: Xid (PCI:0000:82:00): 79, GPU has fallen off the bus."


def test_gpu_lost_by_xid_by_config_space_and_by_both() -> None:
    lost = observed("config-space", bdf="0000:82:00.0", state="lost")
    assert named(case("virtual:pcie-pair", seen(LOST_LINE))) == [("gpu-lost", "probable")]
    assert named(case("virtual:pcie-pair", lost)) == [("gpu-lost", "certain")]
    assert named(case("virtual:pcie-pair", lost, seen(LOST_LINE))) == [("gpu-lost", "certain")]
    assert "0000:82:00.0" in judge(case("virtual:pcie-pair", lost))[0].summary


def test_a_gpu_lost_earlier_counts_only_for_tests_that_use_it() -> None:
    earlier = (seen(LOST_LINE, 0.1),)
    assert named(case("virtual:pcie-pair", session=earlier)) == [("gpu-lost", "probable")]
    assert named(case("virtual:pcie-pair", session=earlier, endpoints=("0000:04:00.0",))) == [
        ("unattributed", "possible")
    ]


def test_a_line_that_a_storm_repeats_is_told_once() -> None:
    storm = [seen(MAILBOX, time_s) for time_s in (1.0, 1.1, 1.2)]
    (verdict,) = judge(case("virtual:pcie-pair", HANG, *storm))
    assert [one.time_s for one in verdict.evidence] == [1.0]


def test_two_causes_are_both_named() -> None:
    one = case("virtual:pcie-pair", HANG, seen(MAILBOX), seen(LOST_LINE.replace("82", "04")))
    assert [signature for signature, _ in named(one)] == ["iommu-blocks-p2p-mailbox", "gpu-lost"], "surest first"


def test_what_could_not_be_seen_is_said() -> None:
    suppressed = seen("dmar_fault: 2474 callbacks suppressed")
    overflow = seen("DMAR: DRHD: handling fault status reg 3")
    lost = Evidence(source="kmsg", node="host", time_s=1.0, kind="records-lost", text="12 records were overwritten")
    (verdict,) = judge(case("virtual:gh200", HANG, suppressed, overflow, lost))
    told = " | ".join(verdict.blind_spots)
    assert "2474" in told
    assert "overflowed" in told
    assert "12 records were overwritten" in told
    assert "ATS" in told
    (in_guest,) = judge(case("virtual:guest-pair", HANG))
    assert in_guest.blind_spots == ("guest: IOMMU faults are logged on the host, which was not read",)


def test_a_source_that_was_watched_and_said_nothing_was_looked_at_too() -> None:
    (verdict,) = judge(case("virtual:pcie-pair", HANG, watched=("kernel log", "NVML events", "test")))
    assert verdict.summary.endswith("(looked at: test; nothing in NVML events, kernel log)")
    (verdict,) = judge(case("virtual:pcie-pair"))
    assert verdict.summary.endswith("(looked at: nothing was observed)")
