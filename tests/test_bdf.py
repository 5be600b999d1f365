"""PCI addresses in every spelling of the field, and round trips."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmaproof import bdf
from dmaproof.errors import UsageError


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0000:01:00.0", "0000:01:00.0"),
        ("01:00.0", "0000:01:00.0"),
        ("0009:01:00", "0009:01:00.0"),
        ("00000000:C3:1F.7", "0000:c3:1f.7"),
        (" 0:1:2.3 ", "0000:01:02.3"),
    ],
)
def test_spellings(text: str, wanted: str) -> None:
    assert bdf.parse(text) == wanted


@pytest.mark.parametrize("text", ["", "1:2", "0:1:99:3", "01:00.8", "01:20.0", "g0:00.0", "0000:01:00.0.0", "60.0"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match="is not a PCI address"):
        bdf.parse(text)


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_requester_ids_round_trip(domain: int, requester: int) -> None:
    text = bdf.from_requester_id(requester, domain)
    assert bdf.parse(text) == text
    assert bdf.requester_id(text) == requester
    assert bdf.from_requester_id(0x100) == "0000:01:00.0"
