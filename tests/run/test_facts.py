"""What a failed test's window holds beside events: facts, with their fields, in the record and with the verdict."""

from __future__ import annotations

import pytest

from dmaproof.evidence.fact import CounterStep
from suites.topology.test_health import ALLOWED_PER_MINUTE, beyond
from tests.run.conftest import Finished, RunSuites

GPUS = {"0000:04:00.0", "0000:82:00.0"}


def seen(run: Finished, what: str) -> list[dict[str, object]]:
    """The data of the record's evidence of one kind."""
    return [dict(line.data) for line in run.record.evidence if line.what == what]


def test_of_a_pair_that_lost_its_writes(run_suites: RunSuites) -> None:
    choice = "peer_write_lands and 1KiB and ce"
    run = run_suites("suites/p2p", "--rig=virtual:pcie-pair", "--plant=peer-writes-dropped", "-k", choice)
    assert run.signatures == {"peer-writes-dropped"}, run.output
    (wrote, *_) = seen(run, "peer-write")
    assert wrote["nwords"] == wrote["wrong_words"] == wrote["old_words"] == 256
    assert {wrote["writer"], wrote["owner"]} == GPUS
    for link in seen(run, "link-state"):
        assert (link["generation"], link["width"]) == (link["offered_generation"], link["offered_width"]) == (4, 16)
    assert {link["bdf"] for link in seen(run, "link-state")} == GPUS
    assert {health["recovery_action"] for health in seen(run, "gpu-health")} == {"none"}
    assert {(one["client"], one["provider"]) for one in seen(run, "route")} == {
        (one, other) for one in GPUS for other in GPUS - {one}
    }
    assert {one["by_nvml"] for one in seen(run, "addressing")} == {"none"}


def test_of_rates_that_fall_short(run_suites: RunSuites) -> None:
    plant = "--plant=p2p-slower-than-host"
    run = run_suites("suites/p2p", "--rig=virtual:pcie-pair", plant, "-k", "staging and gpu0-gpu1")
    assert run.signatures == {"p2p-slower-than-host"}, run.output
    on, off = sorted(seen(run, "measured"), key=lambda one: not one["peer"])
    assert (on["peer"], off["peer"]) == (True, False)
    assert on["declared"] == 21.8
    assert off["declared"] is None, "the rig declares nothing of staging"
    assert (on["source"], on["target"], on["engine"], on["unit"]) == ("0000:04:00.0", "0000:82:00.0", "ce", "GB/s")
    assert len(run.record.measurements) == 1, "a figure that another test records is told to triage alone"


def test_a_passing_test_leaves_no_facts(run_suites: RunSuites) -> None:
    run = run_suites("suites", "--rig=virtual:pcie-pair", "-k", "gpu0-gpu1 and ce and (link_rate or 1KiB)")
    assert run.status == 0
    assert {line.what for line in run.record.evidence} <= {"blind-spot", "rig-note"}


def test_kernel_threads_of_a_stuck_driver(run_suites: RunSuites) -> None:
    run = run_suites(
        "suites/uvm",
        "--rig=virtual:pcie-pair",
        "--plant=uvm-service-stuck",
        "-k",
        "first_touch and managed and gpu",
        "--deadline-scale=1.5",
    )
    threads = seen(run, "kernel-thread")
    assert any(str(one["comm"]).endswith(" BH") and one["state"] in "DR" for one in threads), run.output
    assert run.signatures == {"uvm-service-stuck"}, run.output


@pytest.mark.parametrize(
    ("plant", "test", "says"),
    [
        ("row-remap-pending", "test_no_row_remap_is_due", "a bad row of memory waits for a GPU reset"),
        ("gpu-recovery-required", "test_no_recovery_is_due", "asks for: "),
    ],
)
def test_what_is_wrong_with_a_gpu_before_the_run(plant: str, test: str, says: str, run_suites: RunSuites) -> None:
    run = run_suites("suites/topology", "--rig=virtual:pcie-pair", f"--plant={plant}", "-k", "health")
    failed = [one for one in run.record.tests if one.outcome == "failed"]
    assert [one.id.partition("::")[2].partition("[")[0] for one in failed] == [test], run.output
    assert says in failed[0].message
    assert run.signatures == {plant}


def test_errors_that_the_link_repairs_are_counted_through_the_session(run_suites: RunSuites) -> None:
    """What earlier tests set off: the counters themselves are looked at last."""
    run = run_suites(
        "suites/p2p", "suites/topology", "--rig=virtual:pcie-pair", "--plant=pcie-aer-storm", "-k", "hold_still or h2d"
    )
    outcomes = {test.id.partition("::")[2]: test for test in run.record.tests if "hold_still" in test.id}
    failed = [test for test in outcomes.values() if test.outcome == "failed"]
    assert len(failed) == 1, "the link of one GPU is marginal: the other's counters hold still"
    assert "errors of aer-correctable in" in failed[0].message
    assert "errors of pcie-replay in" in failed[0].message
    steps = [one for one in seen(run, "counter-step") if one["counter"] == "pcie-replay"]
    assert steps


def test_how_many_errors_are_allowed() -> None:
    limit = ALLOWED_PER_MINUTE["pcie-replay"]

    def steps(count: int, **more: object) -> list[CounterStep]:
        fields = {"bdf": "0000:04:00.0", "counter": "pcie-replay", "before": 5, "after": 5 + count, **more}
        return [CounterStep(**fields)]  # type: ignore[arg-type]

    assert beyond(steps(limit), 1.0) == []
    (over,) = beyond(steps(limit + 1), 60.0)
    assert f"{limit + 1} errors of pcie-replay in 60 s, {limit} are allowed" in over
    assert beyond(steps(limit * 10), 600.0) == []
    assert len(beyond(steps(limit + 1) + steps(1, bdf="0000:82:00.0"), 1.0)) == 1
    assert beyond(steps(1, counter="aer-fatal"), 1e6), "of an error that nothing repairs one is too many"
