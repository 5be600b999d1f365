"""Rows of public field failures that evidence alone can tell apart: the words of the report, and the name they get."""

from __future__ import annotations

import pytest

from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import BarConflict
from dmaproof.triage.judge import judge
from tests.triage.cases import HANG, UNKILLABLE, case, fact, named, rate, seen, stack, wrote
from tests.triage.rigs import BAR0, BAR1, GPU0, GPU1, PORT0, box
from tests.triage.symptoms import MINE, SYMPTOMS

AMD = f"nvidia {GPU0}: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0010 address={BAR0 + 0x1139068:#x} flags=0x0020]"
QEMU = (
    "qemu-system-x86_64: warning: IOMMU_IOAS_MAP failed: Bad address, PCI BAR?\n"
    f"qemu-system-x86_64: vfio_container_dma_map(0x55d5c0ffee00, {BAR1 + (1 << 40):#x}, 0x1000000000, 0x7f0000000000)"
    " = -14 (Bad address)"
)
BEYOND = BarConflict(bdf=GPU1, bar=1, address=BAR1 + (1 << 40), nbytes=1 << 36, why="too-wide", first=1 << 39)
RAW_BAR1 = f"DMAR: [DMA Write NO_PASID] Request device [{GPU0}] fault addr {BAR1 + (1 << 40):#x} [fault reason 0x05] x"

ROWS: list[tuple[str, list[Evidence], str]] = [
    ("mailbox", [HANG, seen(AMD)], "iommu-blocks-p2p-mailbox"),
    ("stage2_hole", SYMPTOMS["ats-stage2-hole"].shows(0), "ats-stage2-hole"),
    ("livelock_silent", SYMPTOMS["ats-stage2-hole"].shows(0)[:2], "ats-stage2-hole"),
    ("bar_efault", [seen(QEMU)], "bar-unmappable"),
    ("bar_reserved", SYMPTOMS["bar-unmappable"].shows(1), "bar-unmappable"),
    ("viommu_width", [fact(BEYOND)], "bar-unmappable"),
    ("mirror", [wrote(GPU0, GPU1, wrong=256, old=0, writer_wrong=0)], "peer-mirror"),
    ("silent_drop", [wrote(GPU0, GPU1, wrong=256, old=256, writer_wrong=256)], "peer-writes-dropped"),
    (
        "slower_than_host",
        [rate(GPU0, GPU1, 1.6, 20.0, peer=True), rate(GPU0, GPU1, 13.0, None, peer=False)],
        "p2p-slower-than-host",
    ),
    ("acs", SYMPTOMS["acs-redirects-p2p"].shows(0), "acs-redirects-p2p"),
    ("dmabuf_raw_bar", [seen(RAW_BAR1)], "iommu-blocks-peer-bar"),
    ("links_down", SYMPTOMS["nvlink-degraded"].shows(0), "nvlink-degraded"),
    ("lock_wait", [UNKILLABLE, stack("D", "uvm_page_tree_get_ptes_async")], "driver-stuck"),
]


@pytest.mark.parametrize(("row", "evidence", "signature"), ROWS, ids=[row for row, _, _ in ROWS])
def test_the_row_is_named(row: str, evidence: list[Evidence], signature: str) -> None:
    rig = box("ats", "smmuv3") if signature.startswith("ats") else SYMPTOMS[signature].rig
    assert [name for name, _ in named(case(rig, *evidence, allocations=MINE))] == [signature]


def test_the_remedy_of_acs_names_the_port_and_the_parameter() -> None:
    (verdict,) = judge(case(box(), *SYMPTOMS["acs-redirects-p2p"].shows(0)))
    assert f"pci=disable_acs_redir={PORT0}" in verdict.remedy
    assert f"setpci -s {PORT0} ECAP_ACS+6.w=0:2c" in verdict.remedy
