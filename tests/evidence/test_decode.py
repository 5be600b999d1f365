"""Decoding: real lines of the corpus, every form of the two families, and bytes of any kind."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmaproof.evidence.decode import decode, decode_whole, event_json
from dmaproof.evidence.event import Event

CORPUS = Path(__file__).parents[3] / "shared/corpus/kernel-lines.jsonl"


def corpus() -> list[dict[str, Any]]:
    if not CORPUS.exists():
        return []
    return [json.loads(line) for line in CORPUS.read_text().splitlines()]


def one(text: str) -> dict[str, Any]:
    events = [event_json(event) for event in decode([text.encode()])]
    assert len(events) == 1, events
    return events[0]


def holds(found: dict[str, Any], expect: dict[str, Any]) -> None:
    assert {name: found[name] for name in expect} == expect


@pytest.mark.parametrize("case", corpus(), ids=lambda c: c["line"][:60])
def test_corpus_line(case: dict[str, Any]) -> None:
    holds(one(case["line"]), case["expect"])


FAULT = {"kind": "iommu-fault", "family": "vtd"}
VTD: dict[str, tuple[str, dict[str, Any]]] = {
    "to 5.4, reason in decimal": (
        "DMAR: [DMA Read] Request device [04:1f.7] fault addr f8139000 [fault reason 12] non-zero reserved",
        {**FAULT, "bdf": "0000:04:1f.7", "address": 0xF8139000, "access": "read", "reason": 12, "pasid": None},
    ),
    "5.5, with a PASID": (
        "DMAR: [DMA Write] Request device [6b:00.0] PASID 1f fault addr 7f0012345000 [fault reason 50] SM: x",
        {**FAULT, "bdf": "0000:6b:00.0", "address": 0x7F0012345000, "access": "write", "reason": 50, "pasid": 0x1F},
    ),
    "5.14, device with 0x, reason in hexadecimal": (
        "DMAR: [DMA Write PASID 0x2] Request device [0x6b:0x01.3] fault addr 0x1000 [fault reason 0x71] SM: x",
        {**FAULT, "bdf": "0000:6b:01.3", "address": 0x1000, "access": "write", "reason": 0x71, "pasid": 2},
    ),
    "5.15, device without 0x": (
        "DMAR: [DMA Read NO_PASID] Request device [6b:01.3] fault addr 0x1000 [fault reason 0x10] SM: x",
        {**FAULT, "bdf": "0000:6b:01.3", "address": 0x1000, "access": "read", "reason": 0x10, "pasid": None},
    ),
    "7.2, device with its domain": (
        "DMAR: [DMA Read NO_PASID] Request device [0001:6b:01.3] fault addr 0x1000 [fault reason 0x06] PTE Read",
        {**FAULT, "bdf": "0001:6b:01.3", "address": 0x1000, "access": "read", "reason": 6},
    ),
    "before 4.7, reason on the next line": (
        "[1.5] dmar: DMAR:[DMA Write] Request device [04:00.0] fault addr f8139000 \n[1.5] DMAR:[fault reason 05] PTE",
        {**FAULT, "bdf": "0000:04:00.0", "address": 0xF8139000, "access": "write", "reason": 5, "time": 1.5},
    ),
    "a fault whose reason was cut off": (
        "DMAR: [DMA Write] Request device [04:00.0] fault addr f8139000",
        {**FAULT, "bdf": "0000:04:00.0", "address": 0xF8139000, "reason": None},
    ),
    "interrupt remapping, decimal reason": (
        "DMAR: [INTR-REMAP] Request device [42:00.2] fault index 1600 [fault reason 37] Blocked a compatibility format",
        {**FAULT, "bdf": "0000:42:00.2", "address": None, "access": None, "reason": 37, "event": "INTR-REMAP"},
    ),
    "interrupt remapping, hexadecimal reason": (
        "DMAR: [INTR-REMAP] Request device [0x64:0x00.5] fault index 0x8800 [fault reason 0x25] Blocked",
        {**FAULT, "bdf": "0000:64:00.5", "reason": 0x25, "event": "INTR-REMAP"},
    ),
    "a device that does not answer an invalidation": (
        "DMAR: VT-d detected Invalidation Time-out Error: SID 6b0b",
        {**FAULT, "bdf": "0000:6b:01.3", "event": "ITE"},
    ),
    "status, pending": ("DRHD: handling fault status reg 2", {"kind": "fault-status", "overflow": False}),
    "status, overflow with an index": ("DMAR: DRHD: handling fault status reg 703", {"overflow": True}),
    "status, index only": ("DMAR: DRHD: handling fault status reg 102", {"overflow": False}),
    "suppressed": ("dmar_fault: 44 callbacks suppressed", {"kind": "suppressed", "family": "vtd", "count": 44}),
}


@pytest.mark.parametrize("name", VTD)
def test_vtd(name: str) -> None:
    line, expect = VTD[name]
    holds(one(line), expect)


XID: dict[str, tuple[str, dict[str, Any]]] = {
    "MIG, GPU instance": (
        "NVRM: Xid (PCI:0000:01:00 GPU-I:05): 94, pid=7194, Contained: CE User Channel (0x9). RST: No, D-RST: No",
        {"bdf": "0000:01:00.0", "xid": 94, "gpu_instance": 5, "pid": 7194, "process": None, "channel": None},
    ),
    "MIG, both instances": (
        "NVRM: Xid (PCI:0000:3b:00 GPU-I:01 GPU-CI:02): 13, pid=9, name=a, Graphics Exception",
        {"bdf": "0000:3b:00.0", "xid": 13, "gpu_instance": 1, "pid": 9, "process": "a"},
    ),
    "unknown process": (
        "NVRM: Xid (PCI:0000:01:00): 13, pid='<unknown>', name=<unknown>, Graphics SM Warp Exception on (GPC 7, TPC 7)",
        {"xid": 13, "pid": None, "process": None},
    ),
    "process without a message": (
        "NVRM: Xid (PCI:0000:01:00): 43, pid=12, name=VLLM::Worker, ",
        {"xid": 43, "pid": 12, "process": "VLLM::Worker"},
    ),
    "channel, new spelling, domain in capitals": (
        "NVRM: Xid (PCI:000A:8B:00): 43, pid=146240, name=my prog, channel 0x0000000c",
        {"bdf": "000a:8b:00.0", "xid": 43, "process": "my prog", "channel": 12},
    ),
    "channel, old spelling, root cause": (
        "NVRM: Xid (PCI:0000:01:00): 45, pid=1818990, name=python3, Ch 00000021 caused by previous Xid 149",
        {"xid": 45, "channel": 0x21, "caused_by": 149},
    ),
    "MMU fault of a copy engine": (
        "NVRM: Xid (PCI:0000:01:00): 31, pid=7, name=x, Ch 00000023, intr 00000000. MMU Fault: ENGINE CE0 "
        "HUBCLIENT_HSCE0 faulted @ 0x0_0abe0000. Fault is of type FAULT_PTE ACCESS_TYPE_VIRT_READ",
        {"engine": "CE0", "va": 0x0ABE0000, "fault_type": "FAULT_PTE", "access_type": "ACCESS_TYPE_VIRT_READ"},
    ),
    "MMU fault of a graphics engine": (
        "NVRM: Xid (PCI:0000:01:00): 31, pid=7, name=x, channel 0x00000002, intr 00000000. MMU Fault: ENGINE GRAPHICS "
        "GPC6 GPCCLIENT_T1_13 faulted @ 0x6f6f_320c2000. Fault is of type FAULT_PDE ACCESS_TYPE_VIRT_ATOMIC_STRONG",
        {"engine": "GRAPHICS", "va": 0x6F6F320C2000, "channel": 2, "access_type": "ACCESS_TYPE_VIRT_ATOMIC_STRONG"},
    ),
    "fault over NVLink, no engine": (
        "NVRM: Xid (PCI:0000:01:00): 108, NVLink remote translation error: faulted @ 0x1_00002000. Fault is of type "
        "FAULT_PTE ACCESS_TYPE_VIRT_WRITE",
        {"xid": 108, "engine": None, "va": 0x100002000, "fault_type": "FAULT_PTE"},
    ),
    "the tracepoint, with its function": (
        "bash-9 [001] .... 12.5: nvidia_dev_xid: Xid (PCI:0000:01:00.0): 79, GPU has fallen off the bus.",
        {"bdf": "0000:01:00.0", "xid": 79},
    ),
}


@pytest.mark.parametrize("name", XID)
def test_xid(name: str) -> None:
    line, expect = XID[name]
    holds(one(line), {"kind": "xid", "family": "nvidia", **expect})


def test_a_lost_gpu_that_is_no_xid() -> None:
    event = one("NVRM: GPU 0000:c1:00.0: GPU has fallen off the bus.")
    holds(event, {"kind": "device-lost", "family": "nvidia", "bdf": "0000:c1:00.0"})


def test_a_switch_error_is_not_an_xid() -> None:
    assert list(decode([b"nvidia-nvswitch0: SXid (PCI:0000:05:00.0): 12028, Non-fatal\n"])) == []


def test_json_has_every_field_of_the_contract() -> None:
    event = one("NVRM: Xid (PCI:0000:23:00): 79, GPU has fallen off the bus.")
    assert set(event) == {field.name for field in fields(Event)}
    assert json.loads(json.dumps(event)) == event
    assert event["address"] is None


def test_lines_that_only_add_to_a_fault_are_not_unknown() -> None:
    decoded = decode_whole([b"DMAR: Dump dmar0 table entries for IOVA 0xfe600000\nDMAR: pte level: 4, pte value: 0\n"])
    assert (decoded.events, decoded.lines, decoded.unknown) == ((), 2, 0)


def test_interleaved_lines_do_not_part_a_fault_from_its_reason() -> None:
    log = b"DMAR:[DMA Write] Request device [04:00.0] fault addr 1000 \neth0: up\nDMAR:[fault reason 06] PTE\nx\n"
    decoded = decode_whole([log])
    assert [event.reason for event in decoded.events] == [6]
    assert decoded.unknown == 2


KNOWN = [line for line, _ in (*VTD.values(), *XID.values()) if "\n" not in line and not line.endswith("f8139000")]


@given(st.lists(st.binary(max_size=200)))
def test_any_bytes_decode(pieces: list[bytes]) -> None:
    decoded = decode_whole(pieces)
    assert decoded.unknown <= decoded.lines <= sum(piece.count(b"\n") for piece in pieces) + 1


@given(st.sampled_from([line.encode() for line in KNOWN]), st.data())
def test_mutilated_lines_decode(line: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(line)))
    for event in decode([line[:cut] + data.draw(st.binary(max_size=5)) + line[cut:]]):
        json.dumps(event_json(event))


TELLTALE = (b"\n", b"\r", b"Xid", b"DM", b"DRHD", b"VT-d")
NOISE = st.binary(max_size=60).filter(lambda noise: not any(word in noise for word in TELLTALE))


@given(st.lists(st.one_of(NOISE, st.sampled_from([line.encode() for line in KNOWN]))), st.integers(1, 50))
def test_garbage_between_lines_and_any_cutting_change_nothing(log: list[bytes], size: int) -> None:
    whole = b"\r\n".join(log) + b"\n"
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    expected = [event for line in log if line.decode(errors="replace") in KNOWN for event in decode([line])]
    assert list(decode(pieces)) == expected
