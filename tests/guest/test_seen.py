"""What a host sees of a guest's functions, in the guest's terms."""

from __future__ import annotations

from dmaproof.evidence import decode
from dmaproof.evidence.evidence import Evidence
from dmaproof.guest.seen import in_guest

FAULT = b"DMAR: [DMA Write NO_PASID] Request device [%s] fault addr 0xfe600000 [fault reason 0x05] Write not set"
ASSIGNED = {"0000:41:00.0": "0000:01:00.0"}


def fault(bdf: bytes) -> Evidence:
    (event,) = decode.decode([b"[    1.000000] " + FAULT % bdf])
    return Evidence(source="kmsg", node="host", time_s=1.0, kind=event.kind, text=event.text, event=event)


def test_a_fault_of_an_assigned_function_is_its_guests() -> None:
    (seen,) = in_guest([fault(b"0000:41:00.0")], ASSIGNED, "guest-type1")
    assert seen.event is not None
    assert (seen.event.bdf, seen.event.address) == ("0000:01:00.0", 0xFE600000)
    assert seen.node == "host"
    assert "Request device [0000:41:00.0]" in seen.text
    assert seen.text.endswith("(in guest-type1: 0000:01:00.0)")


def test_a_fault_of_another_function_is_not_even_where_the_guest_has_that_address() -> None:
    assert not list(in_guest([fault(b"0000:01:00.0")], ASSIGNED, "guest-type1"))


def test_what_names_no_function_may_concern_the_guest() -> None:
    counter = Evidence(
        source="aer", node="host", time_s=1.0, kind="counter-step", text="", data={"bdf": "0000:41:00.0"}
    )
    lost = Evidence(source="kmsg", node="host", time_s=1.0, kind="records-lost", text="3 records lost")
    seen = list(in_guest([counter, lost], ASSIGNED, "guest-type1"))
    assert seen[0].data["bdf"] == "0000:01:00.0"
    assert seen[1] == lost
