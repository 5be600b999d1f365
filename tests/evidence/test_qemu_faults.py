"""QEMU's trace of refused DMA: lines that QEMU 11.1 wrote behind each of its IOMMUs, and any other text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmaproof.evidence import qemu_faults
from dmaproof.evidence.event import Event

VTD = "2026-11-21T17:28:50.867296Z vtd_dmar_fault sid 0x100 fault 5 addr 0x6189004 write 1\n"
VIRTIO = (
    "2026-11-21T17:29:52.838597Z virtio_iommu_report_fault FAULT reason=2 flags=256 endpoint=256 address =0x54fd000\n"
)
AMDVI = "2026-11-21T17:31:10.457019Z amdvi_page_fault error: page fault accessing guest physical address 0x72db000\n"
SMMU = [
    "2026-11-21T17:32:18.080735Z smmuv3-iommu-memory-region-0-2 translation failed for iova=0x49a79000 "
    "(SMMU_EVT_F_TRANSLATION)\n",
    "2026-11-21T17:32:18.080852Z smmuv3_propagate_event SMMU_EVT_F_TRANSLATION sid=0x100\n",
]


def only(*lines: str) -> Event:
    (event,) = qemu_faults.read(lines)
    return event


def test_vtd_tells_all() -> None:
    event = only(VTD)
    assert (event.family, event.bdf, event.address, event.access, event.reason) == (
        "vtd", "0000:01:00.0", 0x6189004, "write", 5,
    )  # fmt: skip
    assert event.text == "vtd_dmar_fault sid 0x100 fault 5 addr 0x6189004 write 1"
    assert only(VTD.replace("write 1", "write 0")).access == "read"


def test_virtio_does_not_tell_the_access() -> None:
    event = only(VIRTIO)
    assert (event.family, event.bdf, event.address, event.access) == ("virtio-iommu", "0000:01:00.0", 0x54FD000, None)
    assert only(VIRTIO.replace("endpoint=256", "endpoint=65536")).bdf is None


def test_amdvi_does_not_tell_the_requester() -> None:
    event = only(AMDVI)
    assert (event.family, event.bdf, event.address) == ("amdvi", None, 0x72DB000)


@pytest.mark.parametrize("name", ["smmuv3_propagate_event", "smmuv3_record_event"])
def test_smmu_tells_in_two_lines(name: str) -> None:
    event = only(SMMU[0], SMMU[1].replace("smmuv3_propagate_event", name))
    assert (event.family, event.bdf, event.address, event.event) == (
        "smmuv3", "0000:01:00.0", 0x49A79000, "F_TRANSLATION",
    )  # fmt: skip


def test_an_address_belongs_to_the_event_behind_it_alone() -> None:
    first, second = qemu_faults.read([*SMMU, SMMU[1]])
    assert first.address == 0x49A79000
    assert second.address is None


def test_times_of_older_releases_and_none() -> None:
    plain = VTD.partition(" ")[2]
    assert only(plain) == only(f"4711@1732209600.123456:{plain}") == only(VTD)


def test_other_lines_are_no_refusals() -> None:
    others = ["vtd_iotlb_page_hit domain 0x1\n", "edu: clamping DMA 0x1\n", "\n", VTD[:60], "smmuv3_propagate_event\n"]
    assert list(qemu_faults.read(others)) == []


@given(st.lists(st.one_of(st.text(), st.sampled_from([VTD, VIRTIO, AMDVI, *SMMU]).map(lambda line: line[:70]))))
def test_any_text_is_read(lines: list[str]) -> None:
    list(qemu_faults.read(lines))
