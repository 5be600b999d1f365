"""Peers that are no GPUs: an edu or a drive whose DMA is refused, or that nobody delivers, is named as a GPU's is.

The kernel lines are those of two rigs of QEMU 11.1 with Linux 7.2: two drives with a buffer under one switch without
ACS behind VT-d, and two edu under two root ports.
"""

from __future__ import annotations

from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import PeerReadSeen, PeerWriteSeen
from dmaproof.pci.addresses import AddressMap, Claim
from dmaproof.rig.load import parse
from dmaproof.rig.model import Rig
from dmaproof.triage.judge import judge
from dmaproof.triage.verdict import Case, Verdict
from tests.triage.cases import case, fact, named, observed, seen

NVME0, NVME1 = "0000:03:00.0", "0000:04:00.0"
EDU0, EDU1 = "0000:01:00.0", "0000:02:00.0"
CMB0, CMB1, EDU1_BAR = 0xFD000000, 0xFC000000, 0xFE000000
WINDOW = AddressMap(
    (
        Claim("bar", CMB0, 1 << 24, NVME0, 2),
        Claim("bar", CMB1, 1 << 24, NVME1, 2),
        Claim("bar", EDU1_BAR, 1 << 20, EDU1, 0),
    )
)
READ_FAULT = (
    "DMAR: [DMA Read NO_PASID] Request device [0000:04:00.0] fault addr 0xfd020000 [fault reason 0x06] PTE Read access "
    "is not set"
)
EDU_FAULT = (
    "DMAR: [DMA Write NO_PASID] Request device [0000:01:00.0] fault addr 0xfe000000 [fault reason 0x05] PTE Write "
    "access is not set"
)
VIRTIO_FAULT = "virtio_iommu virtio0: page fault from EP 256 at 0xfe000080 []"


def lab() -> Rig:
    return parse(
        f"""
name = "drives"
kind = "lab"
[node.host]
iommu = {{ family = "vtd", domain = "translated" }}
[node.host.qemu]
[node.host.endpoint.edu0]
kind = "edu"
bdf = "{EDU0}"
port = "0000:00:10.0"
[node.host.endpoint.edu1]
kind = "edu"
bdf = "{EDU1}"
port = "0000:00:11.0"
[node.host.endpoint.nvme0]
kind = "nvme"
bdf = "{NVME0}"
port = "0000:00:12.0"
cmb_nbytes = 0x1000000
[node.host.endpoint.nvme1]
kind = "nvme"
bdf = "{NVME1}"
port = "0000:00:13.0"
cmb_nbytes = 0x1000000
""",
        "drives",
    )


def of(*evidence: Evidence, ends: tuple[str, ...] = (NVME0, NVME1)) -> Case:
    return case(lab(), *evidence, endpoints=ends, addresses=WINDOW)


def drive_read(claimed: int | None = 65536) -> Evidence:
    return fact(
        PeerReadSeen(
            reader=NVME1, owner=NVME0, engine="nvme", nbytes=65536, nwords=16256, wrong_words=16256,
            claimed_nbytes=claimed,
        )
    )  # fmt: skip


def drive_write(claimed: int | None = 65536) -> Evidence:
    return fact(
        PeerWriteSeen(
            writer=NVME1, owner=NVME0, engine="nvme", nbytes=65536, nwords=16256, wrong_words=16256, old_words=16256,
            writer_wrong_words=None, claimed_nbytes=claimed,
        )
    )  # fmt: skip


def edu_write() -> Evidence:
    return fact(
        PeerWriteSeen(
            writer=EDU0, owner=EDU1, engine="edu", nbytes=8, nwords=2, wrong_words=2, old_words=2,
            writer_wrong_words=None,
        )
    )  # fmt: skip


def the_one(one: Case) -> Verdict:
    (verdict,) = judge(one)
    return verdict


def test_data_lost_behind_calls_that_claimed_success_is_the_iommus_where_it_says_so() -> None:
    verdict = the_one(of(seen(READ_FAULT), drive_read(), drive_write()))
    assert (verdict.signature, verdict.confidence) == ("iommu-blocks-peer-bar", "certain")
    assert "0000:04:00.0 reaching for 0xfd020000 in BAR2 of 0000:03:00.0" in verdict.summary
    assert "the calls claimed success: 65536 bytes" in verdict.summary
    assert f"dmaproof route {NVME1} {NVME0}" in verdict.remedy
    assert "NCCL" not in verdict.remedy


def test_the_same_with_the_kernel_log_withheld_is_a_silent_drop() -> None:
    withheld = observed("blind-spot")
    withheld = Evidence(
        source="kmsg", node="host", time_s=withheld.time_s, kind="blind-spot", text="the kernel log is not read"
    )
    verdict = the_one(of(drive_read(), drive_write(), withheld))
    assert (verdict.signature, verdict.confidence) == ("peer-writes-dropped", "possible")
    assert "the call claimed 65536 bytes" in verdict.summary
    assert "the kernel log is not read" in verdict.blind_spots
    assert f"dmaproof route {NVME1} {NVME0}" in verdict.remedy
    assert "NCCL" not in verdict.remedy
    assert named(of(drive_read(), drive_write())) == [("peer-writes-dropped", "probable")]


def test_a_call_that_owned_up_claims_nothing() -> None:
    assert "claimed" not in the_one(of(seen(READ_FAULT), drive_write(claimed=None))).summary
    assert "claimed" not in the_one(of(drive_write(claimed=None))).summary


def test_what_the_rate_limit_ate_is_known_from_before_for_reads_too() -> None:
    one = case(lab(), drive_read(), endpoints=(NVME0, NVME1), addresses=WINDOW, session=(seen(READ_FAULT),))
    assert named(one) == [("iommu-blocks-peer-bar", "probable")]


def test_an_edus_refused_write_is_told_whichever_iommu_logs_it() -> None:
    for line in (EDU_FAULT, VIRTIO_FAULT):
        verdict = the_one(of(seen(line), edu_write(), ends=(EDU0, EDU1)))
        assert (verdict.signature, verdict.confidence) == ("iommu-blocks-peer-bar", "certain")
        assert f"in BAR0 of {EDU1}" in verdict.summary
    assert named(of(edu_write(), ends=(EDU0, EDU1))) == [("peer-writes-dropped", "probable")]


def test_faults_of_other_pairs_explain_nothing_here() -> None:
    assert named(of(seen(EDU_FAULT), drive_write())) == [("peer-writes-dropped", "probable")]
