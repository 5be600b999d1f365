"""Fault reports of the IOMMU families beside VT-d, as their drivers word and limit them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dmaproof.evidence.decode import decode_whole
from dmaproof.rig.hardware import Iommu
from dmaproof.rig.load import load
from dmaproof.rig.model import Node
from dmaproof.virtual.machine.fault_reports import families, reporter
from dmaproof.virtual.machine.iommu import Fault
from dmaproof.virtual.machine.kmsg import KernelLog

Report = Callable[[Node, list[tuple[Fault, float]]], list[str]]
GPU0, GPU1 = "0000:04:00.0", "0000:82:00.0"


@pytest.fixture
def report(tmp_path: Path) -> Report:
    """``report(node, faults)``: the lines of the log that ``faults`` at their times make, continuations with them."""

    def lines(node: Node, faults: list[tuple[Fault, float]]) -> list[str]:
        log = KernelLog(tmp_path / "kmsg")
        tell = reporter(node, log)
        for fault, now_s in faults:
            tell(fault, now_s)
        log.close()
        return [line.partition(";")[2] or line for line in (tmp_path / "kmsg").read_text().splitlines()]

    return lines


def node_of(family: str) -> Node:
    node = load("virtual:pcie-pair").nodes[0]
    return node.model_copy(update={"iommu": Iommu(family=family, domain="translated")})


def test_amd_names_the_device_by_its_driver_and_tells_writes_by_a_flag(report: Report) -> None:
    write, read = Fault(GPU0, 0xF8139068, "write"), Fault(GPU1, 0x380000001234, "read")
    assert report(node_of("amdvi"), [(write, 0.0), (read, 0.0)]) == [
        "nvidia 0000:04:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0003 address=0xf8139068 flags=0x0020]",
        " SUBSYSTEM=pci",
        " DEVICE=+pci:0000:04:00.0",
        "nvidia 0000:82:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0006 address=0x380000001234 flags=0x0000]",
        " SUBSYSTEM=pci",
        " DEVICE=+pci:0000:82:00.0",
    ]


def test_amd_limits_each_device_by_itself(report: Report) -> None:
    burst = [(Fault(gpu, 0x1000 * n, "write"), 0.001 * n) for n in range(25) for gpu in (GPU0, GPU1)]
    found = report(node_of("amdvi"), [*burst, (Fault(GPU0, 0x9000, "write"), 6.0)])
    for gpu, count in ((GPU0, 11), (GPU1, 10)):
        assert sum(line.startswith(f"nvidia {gpu}: AMD-Vi") for line in found) == count
    assert [line for line in found if "callbacks" in line] == ["amd_iommu_report_page_fault: 15 callbacks suppressed"]


def test_smmuv3_prints_the_words_and_what_they_say(report: Report) -> None:
    """The first is a line of a real log but for its device (kernel 7.2, a write at 0x10200004 by 01:00.0)."""
    node = load("virtual:smmu-pair").nodes[0]
    found = report(
        node, [(Fault("0000:01:00.0", 0x10200004, "write"), 0.0), (Fault("0002:01:00.0", 0x5000, "read"), 1.0)]
    )
    first = [
        "event 0x10 received:",
        "\t0x0000010000000010",
        "\t0x0000020000000000",
        "\t0x0000000010200004",
        "\t0x0000000000000000",
        "event: F_TRANSLATION client: 0000:01:00.0 sid: 0x100 ssid: 0x0 iova: 0x10200004 ipa: 0x0",
        'unpriv data write s1 "Input address caused fault" stag: 0x0',
    ]
    second = [
        "event 0x10 received:",
        "\t0x0002010000000010",
        "\t0x0000020800000000",
        "\t0x0000000000005000",
        "\t0x0000000000000000",
        "event: F_TRANSLATION client: 0002:01:00.0 sid: 0x20100 ssid: 0x0 iova: 0x5000 ipa: 0x0",
        'unpriv data read s1 "Input address caused fault" stag: 0x0',
    ]
    for unit, wanted, lines in (("0", first, found[:21]), ("1", second, found[21:])):
        device = f"arm-smmu-v3.{unit}.auto"
        assert lines[0::3] == [f"arm-smmu-v3 {device}: {line}".replace("\t", "\\x09") for line in wanted]
        assert set(lines[1::3]) == {" SUBSYSTEM=platform"}
        assert set(lines[2::3]) == {f" DEVICE=+platform:{device}"}


def test_smmuv3_has_one_limit_for_whole_events(report: Report) -> None:
    node = load("virtual:smmu-pair").nodes[0]
    burst = [(Fault(one.bdf, 0x1000, "write"), 0.001 * n) for n in range(20) for one in node.gpus]
    found = report(node, [*burst, (Fault(node.gpus[0].bdf, 0x1000, "write"), 6.0)])
    assert sum("received:" in line for line in found) == 11
    assert "arm_smmu_dump_event: 30 callbacks suppressed" in found


def test_virtio_iommu_knows_endpoints_by_number(report: Report) -> None:
    found = report(node_of("virtio-iommu"), [(Fault(GPU0, 0xFE000004, "write"), 0.01 * n) for n in range(12)])
    assert found[:3] == [
        "virtio_iommu virtio0: page fault from EP 1024 at 0xfe000004 []",
        " SUBSYSTEM=virtio",
        " DEVICE=+virtio:virtio0",
    ]
    assert len(found) == 30


@pytest.mark.parametrize("family", families())
def test_what_is_reported_decodes_to_what_happened(family: str, report: Report, tmp_path: Path) -> None:
    report(node_of(family), [(Fault(GPU0, 0xF8139000, "write"), 0.0)])
    faults = [one for one in decode_whole([(tmp_path / "kmsg").read_bytes()]).events if one.kind == "iommu-fault"]
    assert [(one.family, one.bdf, one.address) for one in faults] == [(family, GPU0, 0xF8139000)]
    assert faults[0].access == (None if family == "virtio-iommu" else "write")


def test_a_family_that_is_not_modelled_says_so_when_asked(report: Report) -> None:
    with pytest.raises(NotImplementedError, match="not modelled"):
        report(node_of("smmuv2"), [(Fault(GPU0, 0, "read"), 0.0)])
