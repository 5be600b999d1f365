"""The IOMMU's own page tables, as a kernel printed them while QEMU wrote the trace: the two must agree."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from dmaproof.errors import UsageError
from dmaproof.guest.audit import tables
from dmaproof.guest.audit.audit import Asked, audit
from dmaproof.guest.audit.table import Range, Table
from tests.guest.audit.traces import FOLDER, functions, parsed, text, without

BAR = Range(0xFE200000, 0xFE2FFFFF)


def dump(name: str) -> str:
    return gzip.decompress((FOLDER / f"{name}.tables.gz").read_bytes()).decode()


def mapped(table: Table) -> set[int]:
    return {page for one in table for page in range(one.range.first >> 12, (one.range.last >> 12) + 1)}


@pytest.mark.parametrize("name", ["edu-type1", "edu-type1-no-mmap", "msix-type1", "msix-iommufd"])
def test_what_the_trace_says_is_mapped_is_mapped(name: str) -> None:
    """Page by page: QEMU's account of a real guest, and the hardware's."""
    (layer,) = parsed(text(name)).state.layers
    assert mapped(tables.of_dump(dump(name))) == mapped(layer.maps())


@pytest.mark.parametrize("name", ["edu-type1", "msix-type1", "msix-iommufd"])
def test_a_healthy_guest_by_its_tables_has_no_finding_and_type1_no_blind_spot(name: str) -> None:
    asked = Asked(functions=functions(f"{name.split('-')[0]}.pci.json"), tables=[tables.of_dump(dump(name))])
    found = audit(parsed(text(name)), asked)
    assert (found.findings, found.blind_spots) == ((), ())


def test_a_bar_that_type1_was_told_of_and_never_mapped() -> None:
    """The regression under type1, where no trace shows it: the listener knew, the tables lack it."""
    asked = Asked(functions=functions("edu.pci.json"), tables=[tables.of_dump(dump("edu-type1-no-mmap"))])
    (found,) = audit(parsed(text("edu-type1")), asked).findings
    assert (found.why, found.guest, found.range) == ("skipped", "02:00.0", BAR)


def test_pages_that_cannot_be_written_are_read_only() -> None:
    lines = dump("edu-type1").splitlines(keepends=True)
    changed = "".join(one.replace("003\n", "001\n") if one.startswith("0x00000000fe2") else one for one in lines)
    asked = Asked(functions=functions("edu.pci.json"), tables=[tables.of_dump(changed)])
    assert [(one.why, one.range) for one in audit(parsed(text("edu-type1")), asked).findings] == [("read-only", BAR)]


def test_one_page_that_cannot_be_written_or_not_be_read() -> None:
    lines = dump("edu-type1").splitlines(keepends=True)
    page = Range(0xFE210000, 0xFE210FFF)
    for rights, why in (("001", "read-only"), ("002", "skipped")):
        changed = [one.replace("003\n", f"{rights}\n") if one.startswith("0x00000000fe210") else one for one in lines]
        asked = Asked(functions=functions("edu.pci.json"), tables=[tables.of_dump("".join(changed))])
        assert [(one.why, one.range) for one in audit(parsed(text("edu-type1")), asked).findings] == [(why, page)]


def test_one_page_in_the_midst_is_found() -> None:
    asked = Asked(
        functions=functions("edu.pci.json"), tables=[tables.of_dump(without(dump("edu-type1"), "0x00000000fe210 "))]
    )
    (found,) = audit(parsed(text("edu-type1")), asked).findings
    assert found.range == Range(0xFE210000, 0xFE210FFF)


def test_a_file_without_pages_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tables").write_text("Device 0000:01:00.0 @0x4229000\n")
    with pytest.raises(UsageError, match="holds no page: is it a copy of /sys/kernel/debug/iommu/intel/BDF/"):
        tables.read(tmp_path / "tables")
    with pytest.raises(UsageError, match=r"cannot read .*No such file"):
        tables.read(tmp_path / "none")
