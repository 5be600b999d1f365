"""Properties and system-out of a test."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from dmaproof.report.junit import properties, system_out, with_unit
from dmaproof.report.text import printable
from tests.report import records

RIG = records.hgx()


def test_a_measured_test_says_where_and_how_much() -> None:
    found = properties(records.bandwidth(RIG, "gpu0", "gpu1", "ce", 396.8), RIG)
    assert found == [
        ("rig", "virtual:hgx-h100"),
        ("rig_kind", "virtual"),
        ("node", "host"),
        ("mode", "host/vtd/passthrough/hmm"),
        ("endpoints", "0000:1b:00.0 0000:43:00.0"),
        ("bandwidth_GBps", f"{396.8 * records.jitter('gpu0', 'gpu1'):.6g}"),
    ]


def test_several_figures_are_told_apart_by_what_differs() -> None:
    more = {"source": "gpu0", "path": "ce"}
    lines = [
        records.measured("t", "bandwidth_GBps", "GB/s", 1, target="gpu1", peer=True, **more),
        records.measured("t", "bandwidth_GBps", "GB/s", 2, target="gpu1", peer=False, **more),
        records.measured("t", "latency_ns", "ns", 3, target="gpu1", **more),
    ]
    assert properties(lines, RIG)[2:] == [
        ("bandwidth_GBps.peer-on", "1"),
        ("bandwidth_GBps.peer-off", "2"),
        ("latency_ns", "3"),
    ]


def test_units_end_up_in_the_name() -> None:
    assert with_unit("bandwidth_GBps", "GB/s") == "bandwidth_GBps"
    assert with_unit("bandwidth", "GB/s") == "bandwidth_GBps"
    assert with_unit("round_trip", "µs") == "round_trip_us"
    assert with_unit("faults", "1") == "faults"


def test_a_failed_test_names_its_verdict() -> None:
    lines = records.mailbox(RIG, "gpu6", "gpu0", 10.0)
    found = dict(properties(lines, RIG))
    assert found["verdict"] == "iommu-blocks-p2p-mailbox"
    assert found["verdict_confidence"] == "certain"
    said = system_out(lines)
    assert said.startswith("verdict: iommu-blocks-p2p-mailbox (certain)\n")
    assert "[+0.043100 s host kmsg] DMAR: [DMA Write NO_PASID]" in said
    for part in ("blind spots:", "remedy:", "references:", "bugzilla.kernel.org"):
        assert part in said


def test_a_passed_test_has_nothing_to_say() -> None:
    assert system_out(records.latency(RIG, "gpu0", "gpu1", 826)) == ""


def test_hostile_text_makes_valid_xml() -> None:
    lines = records.hostile(RIG)[1]
    for name, value in [*properties(lines, RIG), ("system-out", system_out(lines))]:
        element = ElementTree.Element("property", name=name, value=value)
        back = ElementTree.fromstring(ElementTree.tostring(element))
        assert back.get("name") == name


@given(text=st.text(st.characters()))
def test_printable_text_holds_no_controls(text: str) -> None:
    shown = printable(text)
    shown.encode()
    assert all(
        char.isprintable() or char in "\n\t" or ord(char) > 0xFF
        for char in shown.replace("\xad", "").replace("\xa0", "")
    )
    assert printable(shown) == shown
