"""Fault reports as the VT-d driver makes them, from the arithmetic of one rate limit."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dmaproof.virtual.machine.iommu import Domain, Fault, Iommu
from dmaproof.virtual.machine.kmsg import KernelLog
from dmaproof.virtual.machine.vtd import FaultLog

MAILBOX = Fault("0000:04:00.0", 0xF8139000, "write")
numbers = itertools.count()


def lines(folder: Path, faults: list[tuple[Fault, float]]) -> list[str]:
    file = folder / f"kmsg{next(numbers)}"
    log = KernelLog(file)
    reports = FaultLog(log)
    for fault, now_s in faults:
        reports.report(fault, now_s)
    log.close()
    return file.read_text().splitlines()


def test_one_fault_is_a_header_and_a_record(tmp_path: Path) -> None:
    found = [re.sub(r"^3,(\d),\d+,-;", r"\1 ", line) for line in lines(tmp_path, [(MAILBOX, 0.0)])]
    assert found == [
        "0 DMAR: DRHD: handling fault status reg 2",
        "1 DMAR: [DMA Write NO_PASID] Request device [04:00.0] fault addr 0xf8139000"
        " [fault reason 0x05] PTE Write access is not set",
    ]


def test_a_refused_read_has_its_own_reason(tmp_path: Path) -> None:
    found = lines(tmp_path, [(Fault("0000:82:00.1", 0x1000, "read"), 0.0)])
    assert found[1].endswith(
        ";DMAR: [DMA Read NO_PASID] Request device [82:00.1] fault addr 0x1000"
        " [fault reason 0x06] PTE Read access is not set"
    )


@given(count=st.integers(min_value=4, max_value=400))
def test_a_burst_prints_ten_turns_of_three_a_fault(tmp_path_factory: object, count: int) -> None:
    folder = tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    burst = [(MAILBOX, number * 0.001) for number in range(count)]
    found = lines(folder, [*burst, (MAILBOX, 6.0)])
    suppressed = f"dmar_fault: {3 * count - 10} callbacks suppressed"
    kinds = ["header" if "DRHD" in one else "record" if "fault addr" in one else one.partition(";")[2] for one in found]
    assert kinds == [*["header", "record"] * 3, "header", suppressed, "header", "record"]


@given(
    st.lists(st.integers(min_value=1, max_value=1 << 16), min_size=1, max_size=8),
    st.integers(min_value=0, max_value=1 << 47),
)
def test_what_is_mapped_translates_and_nothing_else(npages: list[int], stray: int) -> None:
    domain = Domain()
    ranges = [range(domain.map(number << 44, n << 12), 0) for number, n in enumerate(npages)]
    spans = [(one.start, one.start + (n << 12)) for one, n in zip(ranges, npages, strict=True)]
    for number, (start, end) in enumerate(spans):
        assert domain.translate(start) == number << 44
        assert domain.translate(end - 1) == (number << 44) + end - start - 1
        assert all(end <= other or start >= stop for other, stop in spans if other != start)
    iommu = Iommu({"0000:04:00.0": domain})
    inside = any(start <= stray < end for start, end in spans)
    assert isinstance(iommu.translate("0000:04:00.0", stray, "write"), Fault) != inside
    assert iommu.translate("0000:05:00.0", stray, "write") == stray
