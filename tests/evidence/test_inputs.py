"""The same faults out of every pipe, whole or torn, sieved in blocks or fed line by line: one answer."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmaproof.evidence.decode import LogDecoder, decode, decode_whole
from dmaproof.evidence.event import Event
from dmaproof.evidence.lines import lines

FAULT = "DMAR: [DMA Write NO_PASID] Request device [01:00.0] fault addr 0xf8139000 [fault reason 0x05] PTE Write access"
XID = "NVRM: Xid (PCI:0000:01:00): 79, pid=7, name=größe, GPU has fallen off the bus."
WORDS = (
    "arm-smmu-v3 a.smmu: event 0x10 received:",
    *(f"arm-smmu-v3 a.smmu: \t0x{word:016x}" for word in (0x100_0000_0010, 1 << 41, 0xF8139000, 0)),
)
LOG = (FAULT, "usb 1-1: new device", *WORDS, "eth0: link up", XID)


def journal(text: str, n: int, **more: object) -> str:
    fields = {"MESSAGE": text, "_TRANSPORT": "kernel", "__REALTIME_TIMESTAMP": "1700000000000000", **more}
    return json.dumps({**fields, "__MONOTONIC_TIMESTAMP": str(n * 1_000_000 + 5)})


PIPES: dict[str, Callable[[str, int], str]] = {
    "dmesg": lambda text, n: f"[{n:5}.000000] {text}",
    "dmesg -x": lambda text, n: f"kern  :err   : [{n:5}.000000] {text}",
    "dmesg with callers": lambda text, n: f"[{n:5}.000000][    T{n + 1}] {text}",
    "dmesg in colour": lambda text, n: "\x1b[32m[{:5}.000000] \x1b[0m\x1b[33m{}: \x1b[0m{}".format(
        n, *text.split(": ", 1)
    ),
    "kmsg": lambda text, n: f"3,{n},{n * 1_000_000},-;{text}\n SUBSYSTEM=pci\n DEVICE=+pci:0000:01:00.0",
    "journal": lambda text, n: f"[{n:5}.000000] gpu-box kernel: {text}",
    "syslog": lambda text, n: f"Oct  6 17:59:27 host kernel: [{n:5}.000000] {text}",
    "journal in JSON": lambda text, n: journal(text, n, _SOURCE_MONOTONIC_TIMESTAMP=str(n * 1_000_000)),
    "journal in JSON, as bytes": lambda text, n: json.dumps(
        {"_SOURCE_MONOTONIC_TIMESTAMP": str(n * 1_000_000), "MESSAGE": list(text.encode())}, separators=(",", ":")
    ),
}


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("pipe", PIPES)
def test_every_pipe_brings_the_same(pipe: str, end: str) -> None:
    text = "".join(PIPES[pipe](line, n).replace("\n", end) + end for n, line in enumerate(LOG))
    decoded = decode_whole([text.encode()])
    assert decoded.events == tuple(decode(["".join(f"[{n}.0] {line}\n" for n, line in enumerate(LOG)).encode()]))
    assert [(event.kind, event.time) for event in decoded.events] == [
        ("iommu-fault", 0.0),
        ("iommu-fault", 2.0),
        ("xid", 8.0),
    ]
    assert (decoded.lines, decoded.unknown) == (len(LOG), 2)


def test_utf_16() -> None:
    log = "\n".join(LOG).replace("größe", "x")
    assert list(decode([log.encode("utf-16")])) == list(decode([log.encode()])) != []


def test_journal_entries_that_are_odd() -> None:
    log = ["{", "{}", '{"MESSAGE":null}', '{"MESSAGE":[]}', '{"MESSAGE":[1,999]}', "[" * 100_000, '{"MESSAGE":5}']
    log += [json.dumps({"MESSAGE": [XID, FAULT], "PRIORITY": "x", "__MONOTONIC_TIMESTAMP": "1" * 99})]
    decoded = decode_whole(["\n".join(log).encode()])
    assert [(event.kind, event.time) for event in decoded.events] == [("xid", None), ("iommu-fault", None)]
    assert (decoded.lines, decoded.unknown) == (8, 7)


def test_a_message_of_several_lines_in_one_entry() -> None:
    text = "NVRM: The NVIDIA GPU 0000:c1:00.0\nNVRM: (PCI ID: 1:2)\nNVRM: fallen off the bus and is not responding to"
    (event,) = decode([journal(text, 3).encode()])
    assert (event.kind, event.bdf, event.time) == ("device-lost", "0000:c1:00.0", 3.000005)


GAPS = "".join(
    f"6,{n},{n}000000,-;{XID if n == 12 else 'eth0: up'}\n DEVICE=n1\n" for n in (5, 6, 9, 10, 11, 12, 14, 3, 4)
)


@pytest.mark.parametrize("size", [1, 7, 64, 5000])
def test_gaps_in_a_saved_kmsg_are_losses(size: int) -> None:
    data = GAPS.encode()
    decoded = decode_whole(data[at : at + size] for at in range(0, len(data), size))
    told = [(event.kind, event.event, event.count, event.time) for event in decoded.events]
    assert told == [
        ("overflow", "sequence-gap", 2, 9.0),
        ("xid", None, None, 12.0),
        ("overflow", "sequence-gap", 1, 14.0),
    ]
    assert (decoded.lines, decoded.unknown) == (9, 8)


TORN = {
    "two on one line": f"[    1.000000] {FAULT}[    2.000000] {XID}",
    "two on one line, no stamps": f"{FAULT}{XID}",
    "in the middle of another": f"[    1.000000] usb 1-1: new hi[    1.000000] {FAULT}",
    "after rubbish": f"\x07\x08~~{FAULT}",
    "the beginning is gone": FAULT[9:],
    "even the device's words are gone": FAULT[40:],
    "after another that was cut": f"[    1.000000] DMAR: [DMA Wri[    1.000000] {FAULT}",
}


@pytest.mark.parametrize("name", TORN)
def test_a_message_anywhere_in_a_line(name: str) -> None:
    found = list(decode([TORN[name].encode()]))
    assert (found[0].kind, found[0].bdf, found[0].address) == ("iommu-fault", "0000:01:00.0", 0xF8139000)
    assert [event.xid for event in found[1:]] == ([79] if "two" in name else [])


def test_each_of_two_on_one_line_has_its_own_time() -> None:
    assert [event.time for event in decode([TORN["two on one line"].encode()])] == [1.0, 2.0]


@pytest.mark.parametrize("cut", range(50, len(FAULT)))
def test_a_cut_line_never_tells_another_address(cut: int) -> None:
    assert {event.address for event in decode([FAULT[:cut].encode()])} <= {None, 0xF8139000} | {
        int(FAULT[73:cut], 16) for _ in [0] if cut > 73 and FAULT[73:cut].endswith("000")
    }


def test_a_cut_xid_is_not_another() -> None:
    assert list(decode([XID[: XID.index("79") + 1].encode()])) == []


def by_hand(data: bytes) -> tuple[Event, ...]:
    """Line by line and without the sieve."""
    decoder = LogDecoder()
    found = [event for line in lines([data]) for event in decoder.feed(line) or ()]
    return (*found, *decoder.finish())


NOISE = ("usb 1-1: new device", "", "  ", " KEY=value", "x" * 300, "{", "\x00", "\x1b[31m", "eth0: DMA\tdone")


@given(
    st.lists(st.sampled_from([*LOG, *NOISE, *(f"[{n}.5] {line}" for n, line in enumerate(LOG))])), st.integers(1, 200)
)
def test_the_sieve_changes_nothing(log: list[str], size: int) -> None:
    data = "\n".join(log).encode()
    decoded = decode_whole(data[at : at + size] for at in range(0, len(data), size))
    assert decoded.events == by_hand(data)
    assert decoded.lines == sum(
        1 for line in data.replace(b"\0", b"").split(b"\n") if line.replace(b"\x1b[31m", b"").strip()
    )


@pytest.mark.parametrize("pipe", PIPES)
def test_a_storm_is_decoded_line_by_line_all_the_same(pipe: str) -> None:
    chance = random.Random(pipe)
    texts = [chance.choice((FAULT, *LOG)) for _ in range(1000)]
    log = "".join(PIPES[pipe](text, n) + "\n" for n, text in enumerate(texts)).encode()
    decoded = decode_whole(log[at : at + 4096] for at in range(0, len(log), 4096))
    assert decoded.events == by_hand(log)
    assert (decoded.lines, decoded.unknown) == (1000, texts.count(LOG[1]) + texts.count("eth0: link up"))


def test_what_is_remembered_is_not_mixed_with_a_report_that_waits() -> None:
    """An old fault waits for its reason; the same text then means something else than alone."""
    half, reason = "DMAR:[DMA Write] Request device [04:00.0] fault addr 1000 ", "DMAR:[fault reason 05] PTE"
    log = "".join(f"[{n}.0] {line}\n" for n, line in enumerate([FAULT, FAULT, half, reason, half, FAULT, FAULT]))
    assert list(decode([log.encode()])) == list(by_hand(log.encode()))
    assert [event.reason for event in decode([log.encode()])] == [5, 5, 5, None, 5, 5]
    assert len(list(decode([f"[1.0] {half}\n[1.0] {reason}\n[1.0] {reason}\n".encode()]))) == 1
