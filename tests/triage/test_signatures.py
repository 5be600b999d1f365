"""Every signature, from what its defect shows: named alone, for its own GPU only; pairs of defects are both named."""

from __future__ import annotations

from itertools import combinations

import pytest

from dmaproof.evidence.fact import KernelThread
from dmaproof.rig.model import Node, Rig
from dmaproof.triage.judge import judge
from dmaproof.triage.signatures import SIGNATURES
from tests.triage.cases import HANG, UNKILLABLE, case, fact, named, observed, only, seen, stack, wrote
from tests.triage.rigs import GPU0, GPU1, GPU2, GPU3, GPUS, box
from tests.triage.symptoms import MINE, SYMPTOMS, mmu_fault, steps, vtd

OF_A_PAIR = {
    "iommu-blocks-p2p-mailbox", "iommu-blocks-peer-bar", "peer-writes-dropped", "peer-mirror", "p2p-slower-than-host",
    "acs-redirects-p2p",
}  # fmt: skip
WHOLE_MACHINE = {"driver-stuck", "node-lost", "console-flood", "kernel-crash"}
"""The thread that is stuck is the test's own, whichever GPU it was for; a node ends with all that is in it."""
LESS_SURE = {"uvm-thrashing": "probable", "console-flood": "probable", "iommu-blocks-memory": "possible"}
NEITHER_HANGS_NOR_SLOWS = {"row-remap-pending"}
SLOW = {"p2p-slower-than-host", "acs-redirects-p2p", "nvlink-degraded", "pcie-link-degraded", "pcie-aer-storm"}


def test_every_signature_has_its_symptoms() -> None:
    assert set(SYMPTOMS) == {one.id for one in SIGNATURES}


@pytest.mark.parametrize("name", SYMPTOMS)
def test_named_alone_and_surely(name: str) -> None:
    symptom = SYMPTOMS[name]
    one = case(symptom.rig, *symptom.shows(2), allocations=MINE)
    verdict = only(one)
    assert (verdict.signature, verdict.confidence) == (name, LESS_SURE.get(name, "certain"))
    assert (
        name in WHOLE_MACHINE or GPU2 in verdict.summary or "GPU3 BH" in verdict.summary or "GPU-2" in verdict.summary
    )
    assert GPU0 not in verdict.summary
    assert GPU0 not in verdict.remedy
    assert "{" not in verdict.remedy.replace("/{stack,wchan}", "").replace(f"{{{GPU2},", "")


@pytest.mark.parametrize("name", sorted(SYMPTOMS.keys() - WHOLE_MACHINE - {"uvm-service-stuck"}))
def test_what_befalls_other_gpus_is_not_the_tests(name: str) -> None:
    symptom = SYMPTOMS[name]
    evidence = [
        one for one in symptom.shows(2) if one.fact is None or one.kind not in ("measured", "peer-write", "route")
    ]
    one = case(symptom.rig, *evidence, endpoints=(GPU0, GPU1), allocations=MINE)
    assert {signature for signature, _ in named(one)} <= {"unattributed", "unattributed-hang"}


def test_a_stuck_service_of_another_gpu_leaves_this_ones_counters_moving() -> None:
    symptom = SYMPTOMS["uvm-service-stuck"]
    one = case(symptom.rig, *symptom.shows(2), steps(0, faults=3, pages_in=9), endpoints=(GPU0,))
    assert named(one) == [("unattributed-hang", "possible")]


@pytest.mark.parametrize(
    ("state", "cpu_s", "queued_s", "stuck"),
    [("R", 0.5, 0, True), ("R", 0.28, 0, True), ("R", 0.1, 0.4, True), ("R", 0.1, 0.1, False), ("S", 0.5, 0, False)],
)
def test_a_service_that_spins_gets_no_more_than_its_share_of_a_processor(
    state: str, cpu_s: float, queued_s: float, stuck: bool
) -> None:
    """Half of one where another wants it as well; one that works on and off also sleeps."""
    thread = KernelThread(
        pid=900, comm="UVM GPU1 BH", state=state, wchan=None, cpu_s=cpu_s, queued_s=queued_s, apart_s=0.5
    )
    expected = ("uvm-service-stuck", "certain") if stuck else ("unattributed-hang", "possible")
    assert named(case(box(addressing="hmm"), HANG, steps(0), fact(thread), endpoints=(GPU0,))) == [expected]


@pytest.mark.parametrize(("first", "second"), list(combinations(SYMPTOMS, 2)))
def test_two_defects_on_different_gpus_are_both_named(first: str, second: str) -> None:
    one, other = SYMPTOMS[first], SYMPTOMS[second]
    if one.rig.node["host"].addressing != other.rig.node["host"].addressing:
        pytest.skip("one needs HMM, the other ATS")
    if NEITHER_HANGS_NOR_SLOWS & {first, second} and (one.hangs or other.hangs or SLOW & {first, second}):
        pytest.skip("a remap that is pending explains no hang and no slow rate")
    rig = next((s.rig for s in (one, other) if s.rig.node["host"].path[0].kind == "nvlink"), one.rig)
    if rig is not one.rig and {first, second} & {"acs-redirects-p2p", "pcie-link-degraded"}:
        pytest.skip("one needs PCIe peers, the other NVLink peers")
    found = {verdict.signature for verdict in judge(case(rig, *one.shows(0), *other.shows(2), allocations=MINE))}
    assert found == {first, second}


@pytest.mark.parametrize("name", SYMPTOMS)
def test_order_of_evidence_and_of_signatures_does_not_matter(name: str) -> None:
    symptom = SYMPTOMS[name]
    together = sorted([*symptom.shows(0), *SYMPTOMS["gpu-lost"].shows(3)], key=lambda one: one.time_s)
    forwards = case(symptom.rig, *together, allocations=MINE)
    other_way = forwards.evidence[::-1]
    in_time = sorted(other_way, key=lambda one: one.time_s)
    backwards = case(symptom.rig, *in_time, allocations=MINE)
    assert named(forwards) == named(backwards)
    assert {"gpu-lost", name} == {signature for signature, _ in named(forwards)}
    assert GPU3 in "".join(verdict.summary for verdict in judge(forwards))


@pytest.mark.parametrize("one", SIGNATURES, ids=lambda one: one.id)
def test_what_is_said_to_people_is_whole(one: object) -> None:
    signature = next(other for other in SIGNATURES if other is one)
    for sentence in (signature.title, signature.needs, signature.excludes, signature.remedy):
        assert sentence.endswith((".", ":"))
        assert sentence[0].isupper() or sentence.startswith("`")
        assert "  " not in sentence
    assert signature.references
    assert len(signature.remedy) > 100
    assert all(gpu not in signature.remedy for gpu in GPUS)


def test_an_error_that_was_contained_earlier_explains_the_count_and_nothing_else() -> None:
    line, health, _ = SYMPTOMS["ecc-contained"].shows(0)
    assert named(case(box(), health, session=(line,))) == [("ecc-contained", "probable")]
    assert named(case(box(), HANG, health, session=(line,))) == [("unattributed-hang", "possible")]
    assert named(case(box(), health)) == [("ecc-uncorrectable", "possible")]
    assert named(case(box(), HANG, health)) == [("unattributed-hang", "possible")]


@pytest.mark.parametrize(
    "name", ["gpu-lost", "gsp-timeout", "ecc-uncorrectable", "nvlink-fatal", "dpc-containment", "row-remap-pending"]
)
def test_what_outlasts_a_test_is_named_for_later_ones_of_that_gpu_only(name: str) -> None:
    symptom = SYMPTOMS[name]
    lines = tuple(one for one in symptom.shows(0) if one.event is not None)
    (again,) = named(case(symptom.rig, session=lines, endpoints=(GPU0,)))
    assert again[0] == name
    assert named(case(symptom.rig, session=lines, endpoints=(GPU1,))) == [("unattributed", "possible")]


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("iommu-blocks-p2p-mailbox", ("hang",)),
        ("ats-stage2-hole", ("hang",)),
        ("uvm-thrashing", ("hang",)),
        ("acs-redirects-p2p", ("measured",)),
        ("acs-redirects-p2p", ("route",)),
        ("p2p-slower-than-host", ("measured",)),
        ("peer-mirror", ("peer-write",)),
        ("bystander", ("xid",)),
    ],
)
def test_what_it_needs_is_needed(name: str, kinds: tuple[str, ...]) -> None:
    symptom = SYMPTOMS[name]
    left = [one for one in symptom.shows(0) if one.kind not in kinds]
    still_there = {"iommu-blocks-p2p-mailbox"}  # the fault alone is enough
    found = {signature for signature, _ in named(case(symptom.rig, *left, allocations=MINE))}
    assert (name in found) == (name in still_there)


def test_dropped_or_mirrored_is_told_by_what_the_writer_sees_and_a_fault_makes_it_the_iommus() -> None:
    dropped, fault = SYMPTOMS["peer-writes-dropped"].shows(0)[0], SYMPTOMS["iommu-blocks-peer-bar"].shows(0)[0]
    assert named(case(box(), dropped)) == [("peer-writes-dropped", "certain")]
    assert named(case(box(), dropped, fault)) == [("iommu-blocks-peer-bar", "certain")]
    suppressed = seen("dmar_fault: 12 callbacks suppressed")
    (verdict,) = judge(case(box(), dropped, suppressed))
    assert (verdict.signature, verdict.confidence) == ("peer-writes-dropped", "possible")
    assert "may have been lost" in verdict.blind_spots[0]
    unsure = wrote(GPU0, GPU1, wrong=256, old=256, writer_wrong=None)
    assert named(case(box(), unsure)) == [("peer-writes-dropped", "probable")]
    corrupted = wrote(GPU0, GPU1, wrong=3, old=0, writer_wrong=3)
    assert named(case(box(), corrupted)) == [("unattributed", "possible")]


def test_a_stuck_thread_is_the_drivers_unless_it_waits_for_files_or_could_be_ended() -> None:
    assert named(case(box(), UNKILLABLE, stack("D", "uvm_page_tree_get_ptes_async"))) == [("driver-stuck", "certain")]
    assert named(case(box(), UNKILLABLE, stack("D", "kernel_clone"))) == [("driver-stuck", "probable")]
    assert named(case(box(), UNKILLABLE, stack("D", "request_wait_answer"))) == [("unattributed-hang", "possible")]
    ended = observed("hang", ended="SIGTERM")
    assert named(case(box(), ended, stack("D", "kernel_clone"))) == [("unattributed-hang", "possible")]


def test_a_program_is_blamed_for_its_own_faults_outside_its_own_memory_only() -> None:
    wild = mmu_fault(0, 0x1000_0000_0000, "FAULT_PDE", "WRITE")
    inside = mmu_fault(0, MINE[0].va + 8, "FAULT_PTE", "WRITE")
    others = mmu_fault(0, 0x1000_0000_0000, "FAULT_PDE", "WRITE", who="pid=990, name=train")
    assert named(case(box(), wild, allocations=MINE)) == [("application-fault", "certain")]
    assert named(case(box(), wild)) == [("application-fault", "probable")]
    assert named(case(box(), wild, pids=frozenset())) == [("application-fault", "possible")]
    assert named(case(box(), inside, allocations=MINE)) == [("unattributed", "possible")]
    assert named(case(box(), others, allocations=MINE)) == [("unattributed", "possible")]


def test_with_no_topology_an_address_that_ends_as_the_mailbox_is_named_with_less_confidence() -> None:
    bare = Rig(name="host", kind="host", node={"host": Node(name="host")})
    fault = SYMPTOMS["iommu-blocks-p2p-mailbox"].shows(0)[1]
    one = case(bare, fault)
    assert named(one) == [("iommu-blocks-p2p-mailbox", "probable")]
    assert "of any GPU whose BAR0 is at 0xf1000000" in only(one).summary
    elsewhere = vtd(GPU0, 0xE1139000)
    assert named(case(box(), elsewhere)) == [("iommu-blocks-memory", "possible")], "this rig knows all its BARs"
