"""What links can carry, and figures beside it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmaproof.rig import load
from dmaproof.rig.model import HOST, Node
from dmaproof.triage.expectation import physical, place, rates
from dmaproof.triage.expectation.figure import Figure, Judgement, Trained
from tests.triage.expectation.figures import figure, host_copy, node

WHOLE = Trained(5, 16, 5, 16)


def judged(node: Node, one: Figure) -> Judgement:
    where = place.of(node, one)
    assert where is not None
    found = physical.judge(node, one, where)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("generation", "width", "raw"),
    [(1, 16, 4.0), (2, 16, 8.0), (3, 16, 15.754), (4, 16, 31.508), (5, 16, 63.015), (6, 16, 118.0)],
)
def test_the_raw_rates_are_those_of_the_standard(generation: int, width: int, raw: float) -> None:
    found = rates.pcie(generation, width)
    assert found is not None
    assert found.raw == pytest.approx(raw, rel=1e-3)


@given(generation=st.integers(1, 7), width=st.sampled_from([1, 2, 4, 8, 16]), payload=st.sampled_from([128, 256, 512]))
def test_a_known_payload_lies_between_the_bounds_of_an_unknown_one(generation: int, width: int, payload: int) -> None:
    known, unknown = rates.pcie(generation, width, payload), rates.pcie(generation, width)
    assert known is not None
    assert unknown is not None
    assert known.usual is not None
    assert unknown.usual is not None
    assert unknown.usual <= known.usual < known.most <= unknown.most < unknown.raw


def test_what_real_machines_reach_lies_between() -> None:
    """H100 from the host 55.4 GB/s, with packets of 256 bytes; an RTX A6000 26.3 at generation 4."""
    for generation, reached in ((5, 55.4), (4, 26.3)):
        found = rates.pcie(generation, 16, 256)
        assert found is not None
        assert found.usual is not None
        assert reached < found.most
        assert reached > found.usual * 0.95


@pytest.mark.parametrize("profile", [one for one in load.profile_ids() if one.startswith("virtual:")])
def test_no_profile_declares_more_than_its_links_carry(profile: str) -> None:
    for here in load.load(profile).nodes:
        ends = [*here.gpu, HOST]
        for source in ends:
            for target in ends:
                path = here.path_between(source, target)
                if path is None or path.bandwidth_GBps is None:
                    continue
                one = figure(source, target, path.bandwidth_GBps, nbytes=512 << 20)
                where = place.of(here, one)
                found = physical.judge(here, one, where) if where is not None else None
                assert found is None or found.standing == "fine", found


def test_more_than_the_link_carries_is_a_wrong_measurement() -> None:
    found = judged(node(), host_copy("gpu0", 70.0, WHOLE))
    assert (found.standing, found.reason, found.certain) == ("high", "wrong-measurement", True)
    assert "PCIe generation 5 x16" in found.text


def test_the_links_word_is_needed_for_certainty() -> None:
    """Without a look at the link it is the rig that may be wrong; a guest may be shown an emulated one."""
    assert not judged(node(), host_copy("gpu0", 70.0)).certain
    guest = node().model_copy(update={"role": "guest"})
    assert not judged(guest, host_copy("gpu0", 70.0, WHOLE)).certain


def test_a_link_at_rest_is_not_taken_for_what_it_was_at_work() -> None:
    found = judged(node(), host_copy("gpu0", 55.0, Trained(1, 16, 5, 16)))
    assert found.standing == "fine"


def test_a_link_that_lacks_lanes_is_certain() -> None:
    found = judged(node(), host_copy("gpu0", 13.8, Trained(5, 4, 5, 16)))
    assert (found.standing, found.reason, found.certain) == ("low", "degraded-link", True)
    assert "generation 5 x4 of generation 5 x16" in found.text


def test_fewer_lanes_that_the_rig_declares_are_none_too_few() -> None:
    here = node()
    gpu = here.gpu["gpu0"]
    assert gpu.pcie is not None
    narrow = gpu.model_copy(update={"pcie": gpu.pcie.model_copy(update={"width": 8})})
    found = judged(
        here.model_copy(update={"gpu": {**here.gpu, "gpu0": narrow}}), host_copy("gpu0", 27.0, Trained(5, 8, 5, 16))
    )
    assert found.standing == "fine"


def test_nvlinks_carry_their_number() -> None:
    assert judged(node(), figure("gpu0", "gpu1", 455.0)).standing == "high"
    assert judged(node(), figure("gpu0", "gpu1", 449.0)).standing == "fine"


def test_copies_within_a_gpu_are_read_and_written_and_small_ones_are_the_caches() -> None:
    test = "suites/p2p/test_bandwidth.py::test_local_copy[host-gpu0-ce]"
    assert judged(node(), figure("gpu0", "gpu0", 3000.0, test=test, nbytes=512 << 20)).standing == "high"
    small = figure("gpu0", "gpu0", 3000.0, test=test, nbytes=1 << 20)
    where = place.of(node(), small)
    assert where is not None
    assert physical.judge(node(), small, where) is None
