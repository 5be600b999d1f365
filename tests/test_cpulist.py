"""Lists of processors."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dmaproof import cpulist


def test_spans_and_single_processors() -> None:
    assert cpulist.parse("0-3,8\n") == {0, 1, 2, 3, 8}
    assert cpulist.parse("\n") == frozenset()


@given(st.sets(st.integers(0, 300)))
def test_a_list_is_read_as_it_was_written(members: set[int]) -> None:
    assert cpulist.parse(",".join(map(str, sorted(members)))) == members


@given(st.text(alphabet="0123456789-, x"))
def test_no_text_crashes_it(text: str) -> None:
    assert all(0 <= one <= 1 << 16 for one in cpulist.parse(text))


@given(st.frozensets(st.integers(0, 300), min_size=1))
def test_a_list_as_the_kernel_prints_it(cpus: frozenset[int]) -> None:
    parts: list[list[int]] = []
    for cpu in sorted(cpus):
        if parts and parts[-1][-1] == cpu - 1:
            parts[-1].append(cpu)
        else:
            parts.append([cpu])
    text = ",".join(f"{one[0]}-{one[-1]}" if len(one) > 1 else str(one[0]) for one in parts)
    assert cpulist.parse(f"{text}\n") == cpus
