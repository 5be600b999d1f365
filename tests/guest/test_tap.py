"""Selftests' output, as kselftest_harness.h and kselftest.h write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmaproof.guest import tap
from dmaproof.guest.tap import Case, Results

HARNESS = """\
TAP version 13
1..4
# Starting 4 tests from 2 test cases.
#  RUN           iommufd.simple_close ...
#            OK  iommufd.simple_close
ok 1 iommufd.simple_close
#  RUN           iommufd.cmd_fail ...
# iommufd.c:92:cmd_fail:Expected 2 (2) == errno (22)
# cmd_fail: Test terminated by assertion
#          FAIL  iommufd.cmd_fail
not ok 2 iommufd.cmd_fail
#  RUN           vfio_dma_map.huge_1gb.dma_map_unmap ...
#      SKIP      Huge pages of this size are not available
#            OK  vfio_dma_map.huge_1gb.dma_map_unmap
ok 3 vfio_dma_map.huge_1gb.dma_map_unmap # SKIP Huge pages of this size are not available
ok 4 iommufd.known # XFAIL not yet
# FAILED: 3 / 4 tests passed.
# Totals: pass:1 fail:1 xfail:1 xpass:0 skip:1 error:0
"""


def test_results_of_the_harness() -> None:
    results = tap.parse(HARNESS)
    assert results.cases == (
        Case("iommufd.simple_close", "passed"),
        Case(
            "iommufd.cmd_fail",
            "failed",
            "iommufd.c:92:cmd_fail:Expected 2 (2) == errno (22) | cmd_fail: Test terminated by assertion",
        ),
        Case("vfio_dma_map.huge_1gb.dma_map_unmap", "skipped", "Huge pages of this size are not available"),
        Case("iommufd.known", "passed"),
    )
    assert results.complete
    assert tap.summed(results) == "2 passed, 1 failed, 1 skipped; 4 announced"


@pytest.mark.parametrize(
    ("line", "case"),
    [
        ("ok 7 - a name", Case("a name", "passed")),
        ("ok 7 # SKIP no device", Case("no device", "skipped", "no device")),
        ("not ok 7 name # TIMEOUT 45 seconds", Case("name", "failed", "45 seconds")),
        ("ok 7 name # XPASS ", Case("name", "failed")),
        ("not ok 7 name # TODO later", Case("name", "passed")),
        ("not ok 7", Case("case 7", "failed")),
        ("ok", Case("case 1", "passed")),
        ("ok 1 a #hash in the name", Case("a #hash in the name", "passed")),
    ],
)
def test_a_result_line(line: str, case: Case) -> None:
    assert tap.parse(line).cases == (case,)


def test_a_program_that_stopped_halfway_is_not_complete() -> None:
    cut = HARNESS[: HARNESS.index("ok 3")]
    assert not tap.parse(cut).complete
    assert not tap.parse("ok 1 without a plan\n").complete
    bailed = tap.parse("TAP version 13\n1..0\nBail out! No IOMMU\n")
    assert (bailed.bailed_out, bailed.complete) == ("No IOMMU", False)


def test_one_that_had_nothing_to_do() -> None:
    results = tap.parse("TAP version 13\n1..0 # SKIP No device provided\n")
    assert results == Results((), 0, "", "No device provided")
    assert results.complete


def test_subtests_are_their_parents_affair() -> None:
    assert tap.parse("1..1\n    not ok 1 inner\nok 1 outer\n").cases == (Case("outer", "passed"),)


@given(st.lists(st.text(max_size=60)), st.sampled_from(["\n", "\r\n"]))
def test_any_text_at_all(lines: list[str], end: str) -> None:
    results = tap.parse(end.join(lines))
    assert len(results.cases) <= sum(len(line.splitlines()) for line in lines)


@given(st.lists(st.tuples(st.booleans(), st.from_regex(r"[a-z_]+\.[a-z_]+", fullmatch=True)), max_size=30))
def test_what_is_told_is_what_is_read(told: list[tuple[bool, str]]) -> None:
    lines = [f"{'' if good else 'not '}ok {n} {name}" for n, (good, name) in enumerate(told, 1)]
    results = tap.parse("\n".join(["TAP version 13", f"1..{len(told)}", *lines]))
    assert [(one.outcome == "passed", one.name) for one in results.cases] == told
    assert results.complete
