"""Lines of sweeps: drawn the same again, and read back as they were written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmaproof.cuda.copies import HOST
from dmaproof.cuda.sweep import draw, line, parse
from dmaproof.errors import UsageError

GPUS = ("gpu0", "gpu1", "gpu2", "gpu3")


@given(st.integers(), st.integers(0, 100), st.sets(st.tuples(st.sampled_from(GPUS), st.sampled_from(GPUS))))
def test_a_set_is_drawn_the_same_again_and_can_be_written_down(
    seed: int, number: int, unmapped: set[tuple[str, str]]
) -> None:
    def reaches(one: str, other: str) -> bool:
        return (one, other) not in unmapped

    triples = draw(seed, number, GPUS, reaches)
    assert triples == draw(seed, number, GPUS, reaches)
    assert parse(line(triples), GPUS) == triples
    for one in triples:
        for end in {one.source, one.target} - {HOST, one.executor}:
            assert reaches(one.executor, end)
            assert reaches(end, one.executor)
        assert one.engine == "sm" or one.executor in (one.source, one.target)
        assert {one.source, one.target} != {HOST}


def test_sets_differ_from_each_other_and_use_every_engine_end_and_size() -> None:
    sets = [draw(1, number, GPUS, lambda _one, _other: True) for number in range(60)]
    triples = [one for found in sets for one in found]
    assert len({line(found) for found in sets}) == 60
    assert {one.engine for one in triples} == {"ce", "sm"}
    assert {end for one in triples for end in (one.source, one.target)} == {*GPUS, HOST}
    assert min(one.nbytes for one in triples) < 1 << 13
    assert max(one.nbytes for one in triples) > 16 << 20
    assert any(one.executor not in (one.source, one.target) for one in triples)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not SRC EXE:ENGINE DST NBYTES"),
        ("gpu0 gpu1:dma gpu1 1024", "is not SRC EXE:ENGINE DST NBYTES"),
        ("gpu0 gpu1:ce gpu1 1024 +", "is not SRC EXE:ENGINE DST NBYTES"),
        ("gpu0 gpu1:ce gpu9 1024", "no end 'gpu9': did you mean"),
        ("gpu0 host:ce gpu1 1024", "no GPU 'host': valid: gpu0, gpu1, gpu2, gpu3$"),
        ("host gpu0:sm host 1024", "one end must be a GPU"),
        ("gpu0 gpu1:ce gpu1 1000", "multiple of 16"),
        ("gpu0 gpu1:ce gpu1 0", "multiple of 16"),
    ],
)
def test_a_line_that_is_none_is_refused_in_a_sentence(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse(text, GPUS)
