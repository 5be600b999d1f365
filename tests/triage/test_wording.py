"""What a verdict says to someone who was not there: which device, numbers of the right counter, commands to paste."""

from __future__ import annotations

import pytest

from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import CounterStep, PeerWriteSeen, RouteSeen
from dmaproof.triage.judge import judge
from tests.triage.cases import HANG, case, fact, only, rate
from tests.triage.rigs import GPU0, GPU1, PORT0, PORT1, box
from tests.triage.symptoms import SYMPTOMS


def test_commands_of_a_remedy_name_the_gpu_that_is_blamed() -> None:
    symptom = SYMPTOMS["row-remap-pending"]
    verdict = only(case(symptom.rig, *symptom.shows(0)))
    assert f"`nvidia-smi --gpu-reset -i {GPU0}`" in verdict.remedy
    assert "<GPU>" not in verdict.remedy


def test_which_of_two_gpus_a_remedy_is_for_is_left_to_the_reader() -> None:
    symptom = SYMPTOMS["row-remap-pending"]
    verdict = only(case(symptom.rig, *symptom.shows(0), *symptom.shows(1)))
    assert GPU0 in verdict.summary
    assert GPU1 in verdict.summary
    assert "-i <GPU>`" in verdict.remedy


def test_no_cause_is_said_of_the_devices_of_the_test() -> None:
    (verdict,) = judge(case("virtual:pcie-pair", HANG, endpoints=("0000:04:00.0", "0000:82:00.0")))
    assert verdict.summary.startswith("a test of 0000:04:00.0, 0000:82:00.0 hung, and nothing that was observed names")


def test_a_source_that_is_blind_was_not_looked_at() -> None:
    blind = Evidence(source="tracepoints", node="host", time_s=1.0, kind="blind-spot", text="tracepoints are not read")
    (verdict,) = judge(case("virtual:pcie-pair", HANG, blind, watched=("kmsg",)))
    assert "tracepoints" not in verdict.summary
    assert verdict.blind_spots[0] == "tracepoints are not read"


def both_ways() -> list[Evidence]:
    """A pair whose ports both redirect, and one rate that falls short."""
    ways = ((GPU0, GPU1, PORT0), (GPU1, GPU0, PORT1))
    routes = [
        RouteSeen(
            client=client, provider=provider, outcome="host-bridge", distance=4, decided_by=port, acs=("RR", "CR")
        )
        for client, provider, port in ways
    ]
    return [rate(GPU0, GPU1, 13.0, 26.0, peer=True), *map(fact, routes)]


def test_acs_on_both_ways_is_one_sentence_and_one_parameter() -> None:
    verdict = only(case(box(), *both_ways()))
    assert verdict.summary.startswith(
        f"{PORT0} (ACS RR+CR) and {PORT1} (ACS RR+CR) redirect peer traffic of {GPU0} and {GPU1} to the root complex: "
    )
    assert verdict.summary.count("GB/s") == 1
    assert f"pci=disable_acs_redir={PORT0};{PORT1} " in verdict.remedy


def replays(bdf: str, before: int, after: int) -> Evidence:
    return fact(CounterStep(bdf=bdf, counter="pcie-replay", before=before, after=after))


def aer(bdf: str, after: int) -> Evidence:
    return fact(CounterStep(bdf=bdf, counter="aer-correctable", before=0, after=after, which="BadTLP"))


def test_aer_and_replays_are_counted_apart_over_all_readings() -> None:
    verdict = only(case(box(), aer(GPU0, 558), replays(GPU0, 0, 1000), replays(GPU0, 1000, 1200)))
    assert verdict.summary.endswith(" damages packets: 558 correctable errors (BadTLP), 1200 replays")


def test_a_storm_that_comes_in_several_readings_is_a_storm() -> None:
    assert only(case(box(), replays(GPU0, 0, 8), replays(GPU0, 8, 16))).signature == "pcie-aer-storm"
    (verdict,) = judge(case(box(), replays(GPU0, 0, 4), replays(GPU0, 4, 8)))
    assert verdict.signature == "unattributed"


def test_each_of_two_marginal_links_is_told_with_its_own_numbers() -> None:
    verdict = only(case(box(), aer(GPU0, 20), aer(GPU1, 30)))
    links = verdict.summary.split("; ")
    assert [GPU0 in links[0], GPU1 in links[1]] == [True, True]
    assert [links[0].rpartition(": ")[2], links[1].rpartition(": ")[2]] == [
        "20 correctable errors (BadTLP)",
        "30 correctable errors (BadTLP)",
    ]


def test_a_stuck_service_thread_is_said_of_the_gpu_of_the_test() -> None:
    symptom = SYMPTOMS["uvm-service-stuck"]
    verdict = only(case(symptom.rig, *symptom.shows(0), endpoints=(GPU0,)))
    assert verdict.summary.startswith(f"page faults of {GPU0} are not served: UVM GPU")


@pytest.mark.parametrize(("writer_wrong", "signature"), [(64, "peer-writes-dropped"), (0, "peer-mirror")])
def test_a_capability_that_the_data_path_belies_is_said_and_by_which_way(writer_wrong: int, signature: str) -> None:
    wrote = PeerWriteSeen(
        writer=GPU0,
        owner=GPU1,
        engine="ce",
        nbytes=256,
        nwords=64,
        wrong_words=64,
        old_words=64,
        writer_wrong_words=writer_wrong,
        can_access=True,
        how="a graph",
    )
    verdict = only(case(box(), fact(wrote)))
    assert verdict.signature == signature
    assert "(ce, a graph)" in verdict.summary
    assert "the driver says that it can reach it (canAccessPeer is 1)" in verdict.summary
