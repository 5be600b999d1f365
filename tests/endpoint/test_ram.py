"""Pages whose place is known: as the kernel itself tells it."""

from __future__ import annotations

import os

import pytest

from dmaproof.endpoint import ram
from dmaproof.errors import EndpointError
from dmaproof.vfio.memory import address_of

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="physical addresses are shown to root only")


@needs_root
def test_a_page_has_an_address_of_its_own_and_holds_what_it_is_given() -> None:
    with ram.page() as one, ram.page() as other:
        assert one.physical % ram.PAGE_NBYTES == 0
        assert one.physical != other.physical
        one.fill(b"\x5a" * ram.PAGE_NBYTES)
        assert one.read() == b"\x5a" * ram.PAGE_NBYTES
        assert other.read() == bytes(ram.PAGE_NBYTES)
        assert ram.physical_address(address_of(one.content) + 24) == one.physical + 24


@needs_root
def test_a_page_that_moved_is_told() -> None:
    with ram.page() as one:
        one.physical += ram.PAGE_NBYTES
        with pytest.raises(EndpointError, match="the kernel moved a locked page"):
            one.check_place()
        one.physical -= ram.PAGE_NBYTES


def test_what_is_not_in_memory_has_no_address() -> None:
    with pytest.raises(EndpointError, match=r"physical address of 0x1000 is unknown"):
        ram.physical_address(0x1000)
