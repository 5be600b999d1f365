"""The fuzzer's promises, a little of it at every run (``python -m tests.fuzz.decoders --minutes 10`` for more)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.decoders import check, main, one_input, seeds

KNOWN = seeds()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 32), st.sampled_from([1, 50, 1 << 16]))
def test_torn_and_mutated_lines(seed: int, size: int) -> None:
    check(one_input(random.Random(seed), KNOWN), size)


@settings(deadline=None)
@given(st.lists(st.one_of(st.sampled_from(KNOWN).map(str.encode), st.binary(max_size=40))), st.integers(1, 99))
def test_any_bytes_between_lines(log: list[bytes], size: int) -> None:
    check(b"\n".join(log), size)


def test_the_command_runs_and_says_what_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--minutes", "0.005", "--seed", "7"]) == 0
    assert "inputs from seed 7 in 0.005 minutes: nothing found" in capsys.readouterr().out
