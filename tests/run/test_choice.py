"""Which pairs a sample holds."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmaproof.errors import UsageError
from dmaproof.rig import load
from fixtures.choice import Choice, Sample, chosen_pairs, coverage, parsed
from tests.run.conftest import RunSuites


@given(count=st.integers(0, 72), number=st.integers(1, 6000), seed=st.integers(0, 99))
def test_a_sample_is_of_the_size_asked_for_and_spread_over_all(count: int, number: int, seed: int) -> None:
    pairs = Choice(sample=Sample(number, None, seed)).of(count)
    assert len(pairs) == len(set(pairs)) == min(number, count * max(count - 1, 0))
    for ends in ([i for i, _ in pairs], [j for _, j in pairs]):
        often = Counter(ends)
        assert max(often.values(), default=0) - (min(often.values(), default=0) if len(often) == count else 0) <= 1


def test_the_same_seed_gives_the_same_pairs_and_another_one_others() -> None:
    """Ids must be alike in every process of a run and on every machine: the first ones of seed 0 are written down."""
    seven = Choice(sample=Sample(100, None, 7)).of(72)
    assert seven == Choice(sample=Sample(100, None, 7)).of(72)
    assert seven != Choice(sample=Sample(100, None, 8)).of(72)
    assert Choice(sample=Sample(3, None, 0)).of(72) == ((13, 71), (15, 50), (28, 66))


def test_a_sample_is_drawn_from_the_chosen_pairs() -> None:
    pairs = Choice("2", Sample(50, None, 0)).of(72)
    assert len(pairs) == 50
    assert set(pairs) < set(chosen_pairs(72, "2"))


def test_a_part_is_rounded_up() -> None:
    assert len(Choice(sample=parsed("1%")).of(8)) == 1
    assert len(Choice(sample=parsed("50%")).of(8)) == 28
    assert len(Choice(sample=parsed("100%")).of(8)) == 56


@pytest.mark.parametrize("text", ["0", "0%", "101%", "1.5", "-3", "five", "5%@", "@3", ""])
def test_what_is_no_sample_is_said(text: str) -> None:
    with pytest.raises(UsageError, match="such as 100, 5% or 5%@SEED"):
        parsed(text)


def test_a_run_refuses_it_in_one_sentence(run_suites: RunSuites) -> None:
    run = run_suites("suites/p2p", "--rig=virtual:pcie-pair", "--sample=many")
    assert run.status == 2
    assert "--sample=many: write a number of pairs" in run.output
    assert "Traceback" not in run.output


def test_coverage_is_told_of_nodes_of_which_a_part_is_tested() -> None:
    hgx = load.load("virtual:hgx-h100")
    assert coverage(hgx, Choice()) == {}
    told = coverage(hgx, Choice(sample=parsed("25%@3")))["host"].text
    assert told == (
        "14 of 56 ordered pairs (25.0%); 8 of 8 GPUs as source, 8 as target; drawn with seed 3; "
        "--pairs=all tests every one"
    )
