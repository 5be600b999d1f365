"""Why a figure is low."""

from __future__ import annotations

import pytest

from dmaproof.evidence.fact import Fact, GpuHealth, LinkState, NvlinkState, RouteSeen
from dmaproof.triage.expectation import peers, reason
from dmaproof.triage.expectation.figure import Figure, Judgement, Trained
from dmaproof.triage.expectation.reason import Seen
from tests.triage.cases import fact
from tests.triage.expectation.figures import figure, host_copy, node

GPU0, GPU1, GPU2 = "0000:1b:00.0", "0000:43:00.0", "0000:52:00.0"


def low(one: Figure) -> Judgement:
    return Judgement(
        figure=one, by="peers", standing="low", against=397.0, bound=357.0, topology="nvlink", text=one.told,
    )  # fmt: skip


def seen(*facts: Fact, cpu_nodes: frozenset[int] | None = None) -> Seen:
    return Seen([fact(one) for one in facts], cpu_nodes)


SLOW = low(figure("gpu0", "gpu1", 198.0))
HEALTHY = (
    NvlinkState(bdf=GPU0, active=18, declared=18),
    NvlinkState(bdf=GPU1, active=18, declared=18),
    GpuHealth(bdf=GPU0, clocks_event_reasons=("idle",)),
    GpuHealth(bdf=GPU1, clocks_event_reasons=()),
    LinkState(bdf=GPU0, port=None, generation=5, width=16, offered_generation=5, offered_width=16),
)


def test_nothing_found_is_unexplained_and_says_what_was_looked_at() -> None:
    found = reason.explained(node(), SLOW, seen(*HEALTHY))
    assert found.reason == "unexplained"
    assert "18 of 18 NVLinks of gpu0 are up" in found.looked_at
    assert "clocks event reasons of gpu0: idle" in found.looked_at
    assert "unexplained by" in found.text
    assert reason.explained(node(), found, seen(*HEALTHY)) == found, "a test may fail in its teardown too"


@pytest.mark.parametrize("declared", [18, None])
def test_links_that_are_down_by_the_rig_or_by_the_other_gpus(declared: int | None) -> None:
    states = [
        NvlinkState(bdf=bdf, active=active, declared=declared) for bdf, active in ((GPU0, 18), (GPU1, 9), (GPU2, 18))
    ]
    found = reason.explained(node(), SLOW, seen(*states))
    assert found.reason == "degraded-link"
    assert found.text.endswith("9 of 18 NVLinks of gpu1 are up")


def test_a_low_generation_explains_what_is_low_anyway() -> None:
    copy = low(host_copy("gpu0", 13.0, Trained(3, 16, 5, 16)))
    assert reason.explained(node(), copy, seen()).reason == "degraded-link"


def test_a_port_that_redirects() -> None:
    redirected = RouteSeen(
        provider=GPU1, client=GPU0, outcome="host-bridge", distance=4, decided_by="0000:19:00.0", acs=("RR", "CR")
    )
    other = RouteSeen(
        provider=GPU2, client=GPU0, outcome="host-bridge", distance=4, decided_by="0000:19:00.0", acs=("RR",)
    )
    assert reason.explained(node(), SLOW, seen(*HEALTHY, redirected)).reason == "redirected-route"
    apart = RouteSeen(provider=GPU1, client=GPU0, outcome="host-bridge", distance=4, decided_by=None, acs=())
    assert reason.explained(node(), SLOW, seen(*HEALTHY, apart)).reason == "unexplained", "there is no shorter way"
    assert reason.explained(node(), SLOW, seen(*HEALTHY, other)).reason == "unexplained"


def test_a_gpu_that_is_throttled() -> None:
    hot = GpuHealth(bdf=GPU1, clocks_event_reasons=("hw-thermal",))
    found = reason.explained(node(), SLOW, seen(*HEALTHY, hot))
    assert found.reason == "throttling"
    assert "clocks event reasons of gpu1: hw-thermal" in found.text


def test_pinned_memory_of_another_numa_node() -> None:
    copy = low(host_copy("gpu0", 30.0))
    assert reason.explained(node(), copy, seen(cpu_nodes=frozenset({1}))).reason == "wrong-numa-node"
    assert reason.explained(node(), copy, seen(cpu_nodes=frozenset({0, 1}))).reason == "unexplained"
    assert reason.explained(node(), copy, seen()).reason == "unexplained"
    assert reason.explained(node(), SLOW, seen(cpu_nodes=frozenset({1}))).reason == "unexplained", "no host memory"


def test_what_is_fine_gets_no_reason() -> None:
    (fine,) = peers.judge(node(), [figure("gpu0", f"gpu{at}", 397.0) for at in range(1, 6)])
    assert reason.explained(node(), fine, seen(NvlinkState(bdf=GPU0, active=9, declared=18))) is fine
