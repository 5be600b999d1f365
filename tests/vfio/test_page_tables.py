"""Dumps of the VT-d driver's page tables: one line as a kernel printed it, large pages, and any text at all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dmaproof.vfio.page_tables import Page, pages

DUMP = (
    "Device 0000:01:00.0 @0x3c3c000\n"
    "IOVA_PFN         \tPML5E             \tPML4E             \tPDPE              \tPDE               \tPTE\n"
    "0x0000000001000 |\t0x0000000000000000\t0x00000000037fc403\t0x0000000003c07403\t0x0000000003692403"
    "\t0x00000000042f1003\n"
)
TOP = "0x0000000000000000\t0x00000000037fc403"


def test_a_page_as_a_kernel_printed_it() -> None:
    assert list(pages(DUMP)) == [Page(0x1000000, 0x42F1000, True, True)]


def test_what_a_device_may_do_is_in_the_lowest_bits() -> None:
    read_only = DUMP.replace("042f1003", "042f1001")
    assert [(one.read, one.write) for one in pages(read_only)] == [(True, False)]


def test_a_page_of_2_MiB_is_512_small_ones() -> None:
    text = f"0x0000000000200 |\t{TOP}\t0x0000000003c07403\t0x0000000040000083\n"
    found = list(pages(text))
    assert len(found) == 512
    assert found[0] == Page(0x200000, 0x40000000, True, True)
    assert found[-1] == Page(0x3FF000, 0x401FF000, True, True)


def test_flags_above_a_small_pages_own_are_no_address() -> None:
    """Bit 12 of a large page's entry is a flag (PAT in the first stage)."""
    found = next(pages(f"0x0000000000200 |\t{TOP}\t0x0000000003c07403\t0x0000000040001083\n"))
    assert found.physical == 0x40000000


def test_a_page_of_1_GiB_counts_from_its_own_start() -> None:
    found = list(pages(f"0x0000000040000 |\t{TOP}\t0x80000000c0000083\n"))
    assert len(found) == 512 * 512
    assert found[1] == Page(0x40001000, 0xC0001000, True, True)


frames = st.integers(0, (1 << 36) - 1)


@given(mapped=st.dictionaries(frames, st.tuples(frames, st.integers(1, 3)), max_size=20))
def test_what_is_printed_is_read_back(mapped: dict[int, tuple[int, int]]) -> None:
    lines = [
        f"0x{iova:013x} |\t{TOP}\t0x0000000003c07403\t0x0000000003692403\t0x{physical << 12 | bits:016x}"
        for iova, (physical, bits) in mapped.items()
    ]
    wanted = {
        Page(iova << 12, physical << 12, bool(bits & 1), bool(bits & 2)) for iova, (physical, bits) in mapped.items()
    }
    assert set(pages("\n".join(lines))) == wanted


@given(text=st.text())
def test_any_text_is_read(text: str) -> None:
    list(pages(text))
