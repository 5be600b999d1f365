"""What is asked of a refusal's line, against lines that IOMMUs behind QEMU 11.1 printed with Linux 7.2."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmaproof.evidence.decode import decode
from dmaproof.evidence.event import Event
from dmaproof.pci.addresses import AddressMap, Claim
from dmaproof.rig.hardware import Iommu, Qemu
from dmaproof.rig.model import Node
from fixtures import refusals
from fixtures.refusals import Refusal

BAR = 0xFDE00000
EDU0, EDU1 = "0000:01:00.0", "0000:02:00.0"
ADDRESSES = AddressMap((Claim("bar", BAR, 1 << 20, EDU1, 0),))
WRITE = Refusal(EDU0, "write", BAR + 0x80, 8, EDU1)
VTD = (
    "DMAR: [DMA Write NO_PASID] Request device [0000:01:00.0] fault addr 0xfde00000 [fault reason 0x05] PTE Write "
    "access is not set"
)
READ = (
    "DMAR: [DMA Read NO_PASID] Request device [0000:01:00.0] fault addr 0x3f71000 [fault reason 0x06] PTE Read access "
    "is not set"
)
VIRTIO = (
    "virtio_iommu virtio0: page fault from EP 256 at 0xfde00080 []\n"
    "virtio_iommu virtio0: page fault from EP 256 at 0xfde00084 []"
)
AMDVI = "pci 0000:00:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0000 address=0x0 flags=0x000a]"


def events(text: str) -> list[Event]:
    return list(decode([text.encode() + b"\n"]))


def node(family: str, domain: str = "translated") -> Node:
    return Node(name="host", iommu=Iommu(family=family, domain=domain), qemu=Qemu())


def complaint(text: str, wanted: Refusal = WRITE, family: str = "vtd") -> str:
    return refusals.complaint(events(text), wanted, node(family), ADDRESSES) or ""


def test_lines_that_tell_it_rightly_pass() -> None:
    assert complaint(VTD) == ""
    assert complaint(VIRTIO, family="virtio-iommu") == ""
    assert complaint(READ, Refusal(EDU0, "read", 0x3F71000, 4096)) == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no fault line was decoded"),
        (VTD.replace("01:00.0", "02:00.0"), "blames 0000:02:00.0"),
        (VTD.replace("Write NO", "Read NO"), "is a read"),
        (VTD.replace("fde00000", "fde01000"), "is not about 0xfde00080"),
        (VIRTIO, "decoded as one of virtio-iommu"),
    ],
)
def test_what_a_line_gets_wrong_is_told(text: str, said: str) -> None:
    assert said in complaint(text)


def test_every_line_is_looked_at() -> None:
    assert "is not about" in complaint(VIRTIO.replace("fde00084", "fde00088"), family="virtio-iommu")


def test_the_place_must_be_the_owners_bar() -> None:
    elsewhere = AddressMap((Claim("bar", BAR, 1 << 20, "0000:05:00.0", 0),))
    said = refusals.complaint(events(VTD), WRITE, node("vtd"), elsewhere)
    assert said is not None
    assert "in place of BAR0 of 0000:02:00.0" in said


def test_of_an_emulated_amd_iommu_nothing_is_asked_and_of_a_real_one_all_is() -> None:
    assert complaint(AMDVI, family="amdvi") == ""
    real = Node(name="host", iommu=Iommu(family="amdvi", domain="translated"))
    assert "blames None, the requester was 0000:01:00.0" in (
        refusals.complaint(events(AMDVI), WRITE, real, ADDRESSES) or ""
    )


@pytest.mark.parametrize(
    ("domain", "passes"), [("translated", False), ("passthrough", True), ("none", True), ("unknown", None)]
)
def test_what_a_domain_lets_pass(domain: str, passes: bool | None) -> None:
    assert refusals.passes(node("vtd", domain)) is passes


@given(st.lists(st.tuples(st.integers(0xC0000000, 0xF4000000), st.integers(1, 1 << 26)), max_size=12))
def test_nowhere_is_what_nobody_claims(claims: list[tuple[int, int]]) -> None:
    known = AddressMap(tuple(Claim("reserved", at, nbytes) for at, nbytes in claims), whole=True)
    found = refusals.nowhere(known, 1 << 16)
    assert found is None or not any(one.overlaps(found, 1 << 16) for one in known.claims)
    assert found is not None or len(claims) > 5


def test_nowhere_is_unknown_where_the_map_is_not_whole() -> None:
    assert refusals.nowhere(AddressMap()) is None
    assert refusals.nowhere(AddressMap(whole=True)) == 0xD0000000
