"""What could not be seen is said, with every verdict and also where there is none."""

from __future__ import annotations

import dataclasses

import pytest

from dmaproof.evidence.evidence import Evidence
from dmaproof.triage.blind_spots import HOST_LOG, blind_spots
from tests.triage.cases import HANG, case, observed, only, seen
from tests.triage.rigs import GPU0, box


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        (seen("dmar_fault: 2474 callbacks suppressed"), "the kernel suppressed 2474 lines"),
        (seen("dmar_fault: 10 callbacks suppressed", count=3), "the kernel suppressed 30 lines"),
        (seen("DMAR: DRHD: handling fault status reg 3"), "the IOMMU's fault log overflowed"),
        (seen("arm-smmu-v3 arm-smmu-v3.0.auto: EVTQ overflow detected -- events lost"), "overflowed"),
        (observed("config-space", bdf=GPU0, state="unreadable"), f"configuration space of {GPU0} could not be read"),
        (
            Evidence(source="kmsg", node="host", time_s=1.0, kind="records-lost", text="12 records lost"),
            "12 records lost",
        ),
        (Evidence(source="nvml", node="host", time_s=1.0, kind="blind-spot", text="NVML does not answer"), "NVML does"),
    ],
)
def test_each_gap_is_named(evidence: Evidence, said: str) -> None:
    assert any(said in spot for spot in only(case(box(), HANG, evidence)).blind_spots)
    assert not any(said in spot for spot in only(case(box(), HANG)).blind_spots)


def test_silence_of_an_ats_path_of_a_host_and_of_a_nested_guest_proves_nothing() -> None:
    assert any(spot.startswith("ATS: ") for spot in blind_spots(case(box("ats", "smmuv3"))))
    assert blind_spots(case(box())) == ()
    rig = box("none", "smmuv3")
    guest = rig.node["host"].model_copy(update={"name": "guest", "role": "guest"})
    both = rig.model_copy(update={"node": {**rig.node, "guest": guest}})
    assert any("nested guest" in spot for spot in blind_spots(case(both)))
    in_guest = dataclasses.replace(case(both), node=guest)
    assert any("logged on the host, which was not read" in spot for spot in blind_spots(in_guest))
    watched = dataclasses.replace(in_guest, watched=("kmsg", HOST_LOG))
    assert not any("logged on the host" in spot for spot in blind_spots(watched))


def test_rate_limits_of_other_subsystems_are_no_gap() -> None:
    assert blind_spots(case(box(), seen("net_ratelimit: 40 callbacks suppressed"))) == ()
