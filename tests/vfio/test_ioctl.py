"""Asking a file that is no VFIO file: the error says what was asked of what, with which values."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmaproof.errors import DmaproofError, IoctlError
from dmaproof.vfio import layouts
from dmaproof.vfio.container import iova_ranges
from dmaproof.vfio.dmabuf import Part, payload
from dmaproof.vfio.ioctl import Request, Type1, call
from dmaproof.vfio.iommufd import IovaRange
from dmaproof.vfio.memory import PAGE_NBYTES, Ram
from dmaproof.vfio.mmio import Mmio


@pytest.fixture
def other_file() -> Iterator[int]:
    fd = os.memfd_create("no-vfio")
    yield fd
    os.close(fd)


def test_an_error_names_ioctl_subject_value_and_errno(other_file: int) -> None:
    argument = layouts.Type1Map(flags=3, vaddr=0x7F0000000000, iova=0x100000, size=0x1000)
    with pytest.raises(IoctlError) as caught:
        call(other_file, Type1.VFIO_IOMMU_MAP_DMA, argument, subject="/dev/vfio/7")
    message = str(caught.value)
    assert message.startswith("VFIO_IOMMU_MAP_DMA(flags=0x3, vaddr=0x7f0000000000, iova=0x100000, size=0x1000)")
    assert "on /dev/vfio/7: ENOTTY (" in message
    assert (caught.value.name, caught.value.ioctl) == ("ENOTTY", "VFIO_IOMMU_MAP_DMA")
    assert isinstance(caught.value, DmaproofError)


@pytest.mark.parametrize(
    ("argument", "told"), [(8, "(8)"), (ctypes.create_string_buffer(b"0000:01:00.0"), "(0000:01:00.0)")]
)
def test_numbers_and_names_are_told_as_they_are(argument: object, told: str, other_file: int) -> None:
    with pytest.raises(IoctlError, match=r"VFIO_SET_IOMMU") as caught:
        call(other_file, Request.VFIO_SET_IOMMU, argument, subject="x")  # type: ignore[arg-type]
    assert told in str(caught.value)


ranges = st.lists(st.tuples(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1)), max_size=6)


@given(ranges=ranges, before=st.integers(0, 3))
def test_iova_ranges_are_found_behind_other_capabilities(ranges: list[tuple[int, int]], before: int) -> None:
    head = ctypes.sizeof(layouts.Type1Info)
    content, at = b"", head
    for _ in range(before):
        at += 16
        content += header(3, at) + bytes(8)
    content += header(1, 0) + len(ranges).to_bytes(4, "little") + bytes(4)
    content += b"".join(first.to_bytes(8, "little") + last.to_bytes(8, "little") for first, last in ranges)
    assert iova_ranges(bytes(head) + content, head) == tuple(IovaRange(*one) for one in ranges)


@given(content=st.binary(max_size=200), at=st.integers(0, 400))
def test_any_chain_of_capabilities_ends(content: bytes, at: int) -> None:
    assert len(iova_ranges(content, at)) <= len(content) // 16


def header(number: int, following: int) -> bytes:
    return number.to_bytes(2, "little") + (1).to_bytes(2, "little") + following.to_bytes(4, "little")


def test_an_export_asks_for_its_ranges_in_order() -> None:
    asked = payload(2, [Part(0x1000, 0x2000), Part(0, 0x1000)])
    words = [int.from_bytes(asked[at : at + 4], "little") for at in range(0, 16, 4)]
    assert words == [2, os.O_RDWR | os.O_CLOEXEC, 0, 2]
    longs = [int.from_bytes(asked[at : at + 8], "little") for at in range(16, len(asked), 8)]
    assert longs == [0x1000, 0x2000, 0, 0x1000]


def test_registers_are_read_and_written_in_their_width() -> None:
    with Ram(PAGE_NBYTES, shared=True) as ram, Mmio(ram.fd, PAGE_NBYTES, subject="BAR 0") as registers:
        registers.write32(4, 0x11223344)
        registers.write64(8, 0x1122334455667788)
        assert bytes(ram.data[:16]).hex() == "00000000" + "44332211" + "8877665544332211"
        assert (registers.read32(8), registers.read64(8)) == (0x55667788, 0x1122334455667788)
        for bad in (2, PAGE_NBYTES, -4):
            with pytest.raises(DmaproofError, match=f"BAR 0: no 4-byte register at {bad:#x}"):
                registers.read32(bad)
        with pytest.raises(DmaproofError, match="no 8-byte register"):
            registers.write64(PAGE_NBYTES - 4, 0)


def test_registers_of_a_file_that_cannot_be_mapped() -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(DmaproofError, match=r"0000:01:00\.0 BAR 0: cannot map 0x1000 bytes"):
            Mmio(reading, 0x1000, subject="0000:01:00.0 BAR 0")
    finally:
        os.close(reading)
        os.close(writing)


@given(nbytes=st.integers(1, 5 * PAGE_NBYTES))
def test_ram_is_whole_pages_at_a_page(nbytes: int) -> None:
    with Ram(nbytes) as ram:
        assert nbytes <= ram.nbytes < nbytes + PAGE_NBYTES
        assert ram.address % PAGE_NBYTES == 0
        ctypes.memset(ram.address, 7, 1)
        assert ram.data[0] == 7
