"""Faults at addresses in no BAR: what is known of the bus decides how sure that is; other faults are other stories."""

from __future__ import annotations

import pytest

from dmaproof.evidence.evidence import Evidence
from dmaproof.pci.addresses import AddressMap, Claim
from dmaproof.rig.model import Node, Rig
from tests.triage.cases import OWN, case, named, only, seen, wrote, xid
from tests.triage.rigs import BAR1, GPU0, GPU1, GPU2, GPU3, PORT0, box
from tests.triage.symptoms import SYMPTOMS, mmu_fault, vtd

IOVA = 0xFFE00000
RAM, RESERVED = Claim("ram", 0x100000000, 1 << 36), Claim("reserved", 0xFEE00000, 1 << 20, name="msi")
WHOLE = AddressMap((RAM, RESERVED), whole=True)
NOTHING_KNOWN = Rig(name="host", kind="host", node={"host": Node(name="host")})
MEMORY = "iommu-blocks-memory"
SMMU = (
    f"arm-smmu-v3 9050000.smmuv3: event: %s client: {GPU0} sid: 0x1100 ssid: %s iova: {IOVA:#x} ipa: 0x0\n"
    'arm-smmu-v3 9050000.smmuv3: unpriv data read s%d "Input address caused fault" stag: 0x0'
)


def amd(event: str, rest: str, name: str = f"nvidia {GPU0}") -> Evidence:
    return seen(f"{name}: AMD-Vi: Event logged [{event} {rest} address={IOVA:#x} flags=0x0020]")


def legacy(reason: str) -> Evidence:
    return seen(f"DMAR: [DMA Write NO_PASID] Request device [{GPU0}] fault addr {IOVA:#x} [fault reason {reason}")


@pytest.mark.parametrize(("address", "there"), [(IOVA, "nothing is there"), (0x123456000, "that is RAM")])
def test_where_all_of_the_bus_is_known_nothing_else_is_left(address: int, there: str) -> None:
    one = case(box(), vtd(GPU0, address, "Read"), endpoints=(GPU0, GPU1), addresses=WHOLE)
    assert named(one) == [(MEMORY, "certain")]
    told = f"{GPU0} reading {address:#x}, where nothing is mapped that it may read (on the bus {there})"
    assert told in only(one).summary


def test_the_machines_own_bars_alone_make_it_probable() -> None:
    bars = AddressMap((Claim("bar", BAR1, 1 << 36, GPU0, 1),), unseen=("/proc/iomem",))
    assert named(case(box(), vtd(GPU0, IOVA), addresses=bars)) == [(MEMORY, "probable")]


def test_a_log_alone_already_says_so() -> None:
    one = case(NOTHING_KNOWN, vtd("0000:03:00.0", IOVA))
    assert named(one) == [(MEMORY, "possible")]
    assert "0000:03:00.0 writing 0xffe00000" in only(one).summary


@pytest.mark.parametrize(
    "fault",
    [
        legacy("0x71] SM: Present bit in first-level paging entry is clear"),
        legacy("0x79] SM: Read/Write permission error in second-level paging entry"),
        amd("IO_PAGE_FAULT", "domain=0x0010"),
        seen(SMMU % ("F_TRANSLATION", "0x0", 1)),
        seen(SMMU % ("F_PERMISSION", "0x0", 1)),
    ],
    ids=lambda one: one.text[:60],
)
def test_families_that_say_not_present_or_no_permission(fault: Evidence) -> None:
    assert named(case(box(), fault, addresses=WHOLE)) == [(MEMORY, "certain")]


@pytest.mark.parametrize(
    "fault",
    [
        legacy("0x02] Present bit in context entry is clear"),
        legacy("0x0c] non-zero reserved fields in PTE"),
        seen(f"DMAR: [DMA Write PASID 0x5] Request device [{GPU0}] fault addr {IOVA:#x} [fault reason 0x71] SM: gone"),
        seen(SMMU % ("F_TRANSLATION", "0x7", 1)),
        seen(SMMU % ("F_WALK_EABT", "0x0", 1)),
        amd("IOTLB_INV_TIMEOUT", "device=11:00.0"),
        amd("PAGE_TAB_HARDWARE_ERROR", "device=11:00.0"),
        seen(f"nvidia {GPU0}: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0010 address={IOVA:#x} flags=0x0008]"),
        amd("IO_PAGE_FAULT", "domain=0x0010", "xhci_hcd"),
        vtd(GPU0, 0xFEE00000),
    ],
    ids=lambda one: one.text[:90],
)
def test_other_faults_are_other_stories(fault: Evidence) -> None:
    assert fault.event is not None
    assert fault.event.address is not None
    one = case(box(), fault, endpoints=(GPU0, GPU1), addresses=WHOLE)
    assert named(one) == [("unattributed", "possible")]


@pytest.mark.parametrize(
    "fault",
    [amd("IO_PAGE_FAULT", "domain=0x0010", f"vfio-pci {GPU0}"), seen(SMMU % ("F_TRANSLATION", "0x0", 2))],
    ids=["of vfio-pci", "of stage 2"],
)
def test_a_guests_address_says_nothing_of_the_hosts_bus(fault: Evidence) -> None:
    one = case(box(), fault, endpoints=(), addresses=WHOLE)
    assert named(one) == [(MEMORY, "possible")]
    assert "as its guest numbers memory" in only(one).summary


ENDS = {
    "gpu-lost": xid(GPU0, "79, pid=1, name=x, GPU has fallen off the bus.", 1.0),
    "gsp-timeout": xid(GPU0, "119, pid=1, name=x, Timeout after 6s of waiting for RPC response from GPU0 GSP!", 1.0),
    "dpc-containment": seen(f"pcieport {PORT0}: DPC: containment event, status:0x1f01 source:0x0000"),
    "kernel-crash": seen(
        "BUG: kernel NULL pointer dereference, address: 0000000000000008\n"
        f"CPU: 3 PID: {OWN} Comm: python3 Tainted: G\nRIP: 0010:uvm_unmap+0x12/0x80 [nvidia_uvm]\n"
        "---[ end trace 0000000000000000 ]---"
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_follows_an_end_is_its_aftermath_and_what_comes_before_is_not(name: str) -> None:
    after = case(box(), ENDS[name], vtd(GPU0, IOVA, time_s=1.5), endpoints=(GPU0, GPU1), addresses=WHOLE)
    assert [one for one, _ in named(after)] == [name]
    before = case(box(), vtd(GPU0, IOVA, time_s=0.5), ENDS[name], endpoints=(GPU0, GPU1), addresses=WHOLE)
    assert {one for one, _ in named(before)} == {MEMORY, name}


@pytest.mark.parametrize("name", ["peer-mirror", "peer-writes-dropped"])
def test_another_gpus_fault_explains_no_transfer(name: str) -> None:
    one = case(box(), *SYMPTOMS[name].shows(0), vtd(GPU1, IOVA), addresses=WHOLE)
    assert {signature for signature, _ in named(one)} == {name, MEMORY}


@pytest.mark.parametrize("pointer", [0, 0x1FFFF_FFFF_FFF8], ids=["zeros", "ones"])
@pytest.mark.parametrize("ends", [(GPU0, GPU1), (GPU1, GPU0)], ids=["written by it", "of its memory"])
def test_words_that_nobody_wrote_and_where_they_lead_are_explained(ends: tuple[str, str], pointer: int) -> None:
    garbage = wrote(*ends, wrong=256, old=0, writer_wrong=0)
    led_astray = mmu_fault(1, pointer, "FAULT_PDE", "READ", time_s=1.2)
    one = case(box(), vtd(GPU0, IOVA), garbage, led_astray, addresses=WHOLE)
    assert named(one) == [(MEMORY, "certain")]
    others = case(box(), vtd(GPU0, IOVA), wrote(GPU2, GPU3, wrong=256, old=0, writer_wrong=0), addresses=WHOLE)
    assert {signature for signature, _ in named(others)} == {MEMORY, "peer-mirror"}
