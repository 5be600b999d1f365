"""Every signature, from what its defect shows: named alone, for its own GPU only; pairs of defects are both named."""

from __future__ import annotations

from itertools import combinations

import pytest

from dmaproof.triage.judge import judge
from dmaproof.triage.signatures import SIGNATURES
from tests.triage.cases import case, named, only
from tests.triage.rigs import GPU0, GPU1, GPU2, GPU3, GPUS
from tests.triage.symptoms import MINE, SYMPTOMS

OF_A_PAIR = {
    "iommu-blocks-p2p-mailbox", "iommu-blocks-peer-bar", "peer-writes-dropped", "peer-mirror", "p2p-slower-than-host",
    "acs-redirects-p2p",
}  # fmt: skip
WHOLE_MACHINE = {"driver-stuck"}
"""The thread that is stuck is the test's own, whichever GPU it was for."""
ONLY_PROBABLE = {"uvm-thrashing"}
NEITHER_HANGS_NOR_SLOWS = {"row-remap-pending"}
SLOW = {"p2p-slower-than-host", "acs-redirects-p2p", "nvlink-degraded", "pcie-link-degraded", "pcie-aer-storm"}


def test_every_signature_has_its_symptoms() -> None:
    assert set(SYMPTOMS) == {one.id for one in SIGNATURES}


@pytest.mark.parametrize("name", SYMPTOMS)
def test_named_alone_and_surely(name: str) -> None:
    symptom = SYMPTOMS[name]
    one = case(symptom.rig, *symptom.shows(2), allocations=MINE)
    verdict = only(one)
    assert (verdict.signature, verdict.confidence) == (name, "probable" if name in ONLY_PROBABLE else "certain")
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
    from tests.triage.symptoms import steps

    one = case(symptom.rig, *symptom.shows(2), steps(0, faults=3, pages_in=9), endpoints=(GPU0,))
    assert named(one) == [("unattributed-hang", "possible")]


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
