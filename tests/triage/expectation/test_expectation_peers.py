"""Outliers among figures of one kind."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmaproof.rig.model import Node, Path
from dmaproof.triage.expectation import peers
from dmaproof.triage.expectation.figure import Figure, Judgement
from tests.triage.expectation.figures import figure, host_copy, matrix, node


def outliers(node: Node, figures: list[Figure]) -> list[Judgement]:
    return [one for one in peers.judge(node, figures) if one.standing != "fine"]


def undeclared(node: Node, kind: str = "nvlink") -> Node:
    """The same GPUs, with no rate declared."""
    paths = (Path(source="gpu*", target="gpu*", kind=kind, peer=True), Path(source="host", target="gpu*", kind="pcie"))
    return node.model_copy(update={"path": paths})


def test_one_slow_pair_among_56_is_found_without_any_declaration() -> None:
    here = undeclared(node())
    figures = [replace(one, value=198.0, samples=(197.0, 198.0, 199.0)) if one.ends == ("gpu2", "gpu5") else one
               for one in matrix(here)]  # fmt: skip
    (slow,) = outliers(here, figures)
    assert slow.figure.ends == ("gpu2", "gpu5")
    assert (slow.among, slow.certain) == (56, True)
    assert slow.against == pytest.approx(397.0, rel=0.005)
    assert "gpu2 to gpu5 by ce: 198 GB/s" in slow.text
    assert "the middle of 56 such figures is 397 GB/s" in slow.text


def test_a_healthy_matrix_has_no_outlier_and_its_worst_figure_is_told() -> None:
    here = undeclared(node())
    (worst,) = peers.judge(here, matrix(here))
    assert worst.standing == "fine"
    assert worst.figure.value == min(one.value for one in matrix(here))


@pytest.mark.parametrize("gpus", [4, 8])
def test_all_pairs_of_one_gpu_are_found_even_where_they_are_half_of_all(gpus: int) -> None:
    """Of four GPUs the six pairs of one are half of twelve: the better half is what the machine can do."""
    here = undeclared(node())
    few = here.model_copy(update={"gpu": dict(list(here.gpu.items())[:gpus])})
    figures = [replace(one, value=one.value / 2, samples=()) if "gpu1" in one.ends else one for one in matrix(few)]
    assert {one.figure.ends for one in outliers(few, figures)} == {one.ends for one in figures if "gpu1" in one.ends}


def test_a_single_bad_sample_is_no_outlier() -> None:
    here = undeclared(node())
    figures = matrix(here)
    figures[3] = replace(figures[3], value=200.0, samples=(200.0, 199.0, 396.0))
    assert outliers(here, figures) == []


def test_latencies_are_judged_the_other_way() -> None:
    here = undeclared(node())
    figures = [replace(one, name="latency_ns", unit="ns", value=826.0, samples=(826.0,)) for one in matrix(here)]
    figures[9] = replace(figures[9], value=1900.0, samples=(1899.0, 1900.0))
    figures[10] = replace(figures[10], value=400.0, samples=(400.0,))
    assert [one.figure for one in outliers(here, figures)] == [figures[9]]


def test_what_the_cpus_clock_has_timed_is_not_compared() -> None:
    """How soon a process runs again on a busy machine says nothing of a link."""
    timed = [replace(one, method="100 round trips, CPU clock") for one in matrix(node())]
    assert list(peers.judge(node(), [*timed[1:], replace(timed[0], value=10.0, samples=(10.0,))])) == []


def test_three_figures_have_no_odd_one() -> None:
    assert list(peers.judge(node(), [*matrix(node())[:2], figure("gpu3", "gpu1", 10.0)])) == []


def test_paths_that_nobody_knows_are_an_outlier_that_is_not_certain() -> None:
    here = undeclared(node(), kind="unknown")
    figures = matrix(here)
    figures[0] = replace(figures[0], value=20.0, samples=(20.0,))
    (slow,) = outliers(here, figures)
    assert slow.topology.startswith("unknown")
    assert not slow.certain


def test_host_copies_are_compared_within_a_numa_node() -> None:
    """Which memory is near differs with it: half of the GPUs may be slower for that alone."""
    here = undeclared(node())
    far = [host_copy(f"gpu{at}", 44.0) for at in range(4, 8)]
    near = [host_copy(f"gpu{at}", 55.0) for at in range(4)]
    assert outliers(here, near + far) == []
    slow = host_copy("gpu6", 14.0)
    assert [one.figure for one in outliers(here, [*near, *far[:2], slow, far[3]])] == [slow]


def test_settings_are_not_mixed() -> None:
    """Half of the matrix by another method, size or kind of memory has peers of its own."""
    here = undeclared(node())
    for more in ({"nbytes": 1024}, {"memory": "pool>device"}, {"engine": "sm"}, {"direction": "both"}):
        slow = [replace(one, value=60.0, samples=(60.0,), **more) for one in matrix(here)[:20]]  # type: ignore[arg-type]
        assert outliers(here, matrix(here) + slow) == []


@given(
    values=st.lists(st.floats(370.0, 400.0), min_size=4, max_size=56),
    odd=st.floats(1.0, 250.0),
    at=st.integers(0, 55),
)
def test_a_figure_far_below_is_always_found_and_nothing_else(values: list[float], odd: float, at: int) -> None:
    here = undeclared(node())
    figures = [replace(one, value=value, samples=(value,)) for one, value in zip(matrix(here), values, strict=False)]
    assert outliers(here, figures) == []
    at %= len(figures)
    figures[at] = replace(figures[at], value=odd, samples=(odd,))
    assert [one.figure for one in outliers(here, figures)] == [figures[at]]
