"""One Xid is one, whoever saw it."""

from __future__ import annotations

from dmaproof.triage import xids
from tests.triage.cases import case, nvml, seen, xid
from tests.triage.rigs import GPU0, GPU1, box

TEXT = "31, pid=4711, name=python3, Ch 00000008"


def test_the_log_and_nvml_tell_of_one_xid() -> None:
    (one,) = xids.of([nvml(GPU0, 31, 1.0), xid(GPU0, TEXT, 1.2)])
    assert one.sources == {"kmsg", "nvml"}
    assert (one.number, one.bdf, one.pid, one.count) == (31, GPU0, 4711, 1)


def test_two_lines_are_two_xids_and_nvmls_events_go_with_them_in_order() -> None:
    found = xids.of([xid(GPU0, TEXT, 1.0), xid(GPU0, TEXT, 2.0), nvml(GPU0, 31, 1.1), nvml(GPU0, 31, 2.1)])
    assert [(len(one.sightings), one.first.time_s) for one in found] == [(2, 1.0), (2, 2.0)]


def test_far_apart_other_gpus_and_other_numbers_are_not_one() -> None:
    evidence = [xid(GPU0, TEXT, 1.0), nvml(GPU0, 31, 60.0), nvml(GPU1, 31, 1.0), nvml(GPU0, 43, 1.0)]
    assert len(xids.of(evidence)) == 4
    assert [one.bdf for one in xids.of(evidence, 31)] == [GPU0, GPU1, GPU0]


def test_a_storm_of_one_line_counts() -> None:
    (one,) = xids.of([seen("NVRM: Xid (PCI:0000:11:00): 79, GPU has fallen off the bus.", count=40)])
    assert one.count == 40


def test_whose_an_xid_is_is_known_by_its_pid_only() -> None:
    mine, theirs, unknown = (
        xids.of([xid(GPU0, f"13, {who}x")])[0] for who in ("pid=4711, name=p, ", "pid=9, name=q, ", "pid='<unknown>', ")
    )
    given = case(box())
    assert [xids.is_own(given, one) for one in (mine, theirs, unknown)] == [True, False, None]
    assert xids.is_own(case(box(), pids=frozenset()), mine) is None
