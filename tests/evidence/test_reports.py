"""Reports of several lines become one event: SMMUv3, AER, lost GPUs; also mixed, cut, and in any prefix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from dmaproof.evidence.aer import request
from dmaproof.evidence.decode import LogDecoder, decode_whole
from dmaproof.evidence.event import Event
from dmaproof.evidence.lines import lines


def events(log: Iterable[str]) -> tuple[Event, ...]:
    decoded = decode_whole(["\n".join(log).encode()])
    assert decoded.unknown == 0
    return decoded.events


def smmu(name: str, sid: int, address: int, write: bool = True, stage2: bool = False) -> list[str]:
    word = (0 if write else 1 << 35) | (1 << 39 if stage2 else 0) | 2 << 40
    start = f"arm-smmu-v3 {name}: "
    access, stage = "write" if write else "read", 2 if stage2 else 1
    client = f"{sid >> 8:02x}:{sid >> 3 & 31:02x}.{sid & 7}"
    return [
        f"{start}event 0x10 received:",
        *(f"{start}\t0x{one:016x}" for one in (sid << 32 | 0x10, word, address, 0)),
        f"{start}event: F_TRANSLATION client: 0000:{client} sid: {sid:#x} ssid: 0x0 iova: {address:#x} ipa: 0x0",
        f'{start}unpriv data {access} s{stage} "Input address caused fault" stag: 0x0',
    ]


WRITE = {"bdf": "0000:01:00.0", "address": 0xF8139000, "access": "write", "stage": 1, "event": "F_TRANSLATION"}
READ = {"bdf": "0000:02:00.0", "address": 0x1000, "access": "read", "stage": 2, "event": "F_TRANSLATION"}


def shows(event: Event, expect: dict[str, Any]) -> None:
    assert {name: getattr(event, name) for name in expect} == expect


def test_words_and_decoded_lines_are_one_event() -> None:
    log = smmu("a.smmu", 0x100, 0xF8139000)
    (event,) = events(log)
    shows(event, WRITE)
    assert event.text == "\n".join(log)


@pytest.mark.parametrize("keep", [slice(0, 5), slice(5, 7), slice(0, 7)], ids=["words", "decoded", "both"])
def test_either_half_says_the_same(keep: slice) -> None:
    log = smmu("a.smmu", 0x200, 0x1000, write=False, stage2=True)[keep]
    found = events([*log, *smmu("a.smmu", 0x100, 0xF8139000)[keep]])
    shows(found[0], READ)
    shows(found[1], WRITE)
    assert len(found) == 2


def test_words_of_one_stream_and_lines_of_another_are_two_events() -> None:
    log = smmu("a.smmu", 0x100, 0xF8139000)[:5] + smmu("a.smmu", 0x200, 0x1000, write=False, stage2=True)[5:]
    one, other = events(log)
    shows(one, WRITE)
    shows(other, READ)


def test_two_smmus_mixed_line_by_line() -> None:
    first, second = smmu("a.smmu", 0x100, 0xF8139000), smmu("b.smmu", 0x200, 0x1000, write=False, stage2=True)
    mixed = [line for pair in zip(first, second, strict=True) for line in pair]
    one, other = events(mixed)
    shows(one, WRITE)
    shows(other, READ)
    assert one.text == "\n".join(first)


def test_a_report_without_an_address_has_none() -> None:
    start = "arm-smmu-v3 a.smmu: "
    log = [
        f"{start}event 0x02 received:",
        *(f"{start}\t0x{one:016x}" for one in (0x10000 << 32 | 0x02, 0, 0xFFFF, 0)),
        f"{start}event: C_BAD_STREAMID client: (unassigned sid) sid: 0x10000 ssid: 0x0",
    ]
    (event,) = events(log)
    shows(event, {"event": "C_BAD_STREAMID", "bdf": None, "address": None, "access": None, "stage": None})


def test_a_substream_is_a_pasid() -> None:
    words = (0x100 << 32 | 0x17 << 12 | 1 << 11 | 0x13, 1 << 35, 0x7F0000001000, 0)
    log = ["arm-smmu-v3 a: event 0x13 received:", *(f"arm-smmu-v3 a: \t0x{one:016x}" for one in words)]
    shows(events(log)[0], {"pasid": 0x17, "event": "F_PERMISSION", "access": "read"})


def test_overflow_ends_the_report_before_it() -> None:
    log = [*smmu("a", 0x100, 0xF8139000)[:5], "arm-smmu-v3 a: EVTQ overflow detected -- events lost"]
    fault, lost = events(log)
    shows(fault, WRITE)
    shows(lost, {"kind": "overflow", "family": "smmuv3", "overflow": True, "event": "EVTQ"})


def test_a_device_that_does_not_answer_an_invalidation() -> None:
    (event,) = events(["arm-smmu-v3 a: CMDQ error (cons 0x03001234): ATC invalidate timeout"])
    shows(event, {"kind": "iommu-fault", "family": "smmuv3", "event": "ATC invalidate timeout"})


PORT, GPU = "pcieport 0000:00:1c.5", "nvidia 0000:02:00.0"
NEW = [
    f"{PORT}: AER: Correctable error message received from 0000:02:00.0",
    f"{GPU}: PCIe Bus Error: severity=Correctable, type=Data Link Layer, (Transmitter ID)",
    f"{GPU}:   device [10de:2330] error status/mask=000010c0/00002000",
    f"{GPU}:    [ 6] BadTLP                ",
    f"{GPU}:    [ 7] BadDLLP               ",
    f"{GPU}:    [12] Timeout               ",
]
OLD = [
    "pcieport 0000:00:1c.5: AER: Corrected error received: id=00e5",
    "pcieport 0000:00:1c.5: PCIe Bus Error: severity=Corrected, type=Physical Layer, id=00e5(Receiver ID)",
    "pcieport 0000:00:1c.5:   device [8086:9d15] error status/mask=00000001/00002000",
    "pcieport 0000:00:1c.5:    [ 0] Receiver Error         (First)",
]
UNSUPPORTED = [
    f"{PORT}: AER: Multiple Uncorrectable (Non-Fatal) error message received from 0000:02:00.0",
    f"{GPU}: PCIe Bus Error: severity=Uncorrectable (Non-Fatal), type=Transaction Layer, (Requester ID)",
    f"{GPU}:   device [10de:2330] error status/mask=00300000/00000000",
    f"{GPU}:    [20] UnsupReq               (First)",
    f"{GPU}:    [21] ACSViol               ",
    f"{GPU}:   TLP Header: 60000020 010000ff 00003800 00139000",
]


def test_an_error_is_one_event_in_both_spellings() -> None:
    (new,), (old,) = events(NEW), events(OLD)
    shows(new, {"kind": "aer", "family": "pcie", "bdf": "0000:02:00.0", "severity": "correctable", "reason": 0x10C0})
    shows(old, {"bdf": "0000:00:1c.5", "severity": "correctable", "event": "RxErr", "reason": 1})
    assert (new.event, new.text) == ("BadTLP,BadDLLP,Timeout", "\n".join(line.rstrip() for line in NEW))


def test_a_memory_request_at_fault_gives_its_address() -> None:
    (event,) = events(UNSUPPORTED)
    shows(event, {"severity": "nonfatal", "event": "UnsupReq,ACSViol", "address": 0x380000139000, "access": "write"})


@pytest.mark.parametrize(
    ("words", "expect"),
    [
        ([0x20000001, 0, 0x12, 0x34567890], (0x1234567890, "read")),
        ([0x00000001, 0, 0xFE001004, 0], (0xFE001004, "read")),
        ([0x40000001, 0, 0xFE001004, 0], (0xFE001004, "write")),
        ([0x6C000002, 0, 0x12, 0], (0x1200000000, "write")),  # FetchAdd
        ([0x4A000001, 0, 0, 0], (None, None)),  # a completion
        ([0x04000001, 0, 0, 0], (None, None)),  # configuration
    ],
)
def test_packet_headers(words: list[int], expect: tuple[int | None, str | None]) -> None:
    assert request(words) == expect


def test_two_devices_mixed() -> None:
    first, second = events(
        [line for pair in zip(NEW, [*OLD, *OLD[:0], *NEW[:0]], strict=False) for line in pair] + NEW[4:]
    )
    assert {first.event, second.event} == {"BadTLP,BadDLLP,Timeout", "RxErr"}


def test_without_its_bits_the_status_names_them() -> None:
    (event,) = events(UNSUPPORTED[:3])
    assert event.event == "UnsupReq,ACSViol"


def test_a_header_that_does_not_come_delays_nothing_behind_the_next_error() -> None:
    assert [event.severity for event in events([*UNSUPPORTED[:5], *OLD])] == ["nonfatal", "correctable"]


def test_nor_does_it_behind_details_of_another_device() -> None:
    assert [event.severity for event in events([*UNSUPPORTED[:5], *OLD[1:]])] == ["nonfatal", "correctable"]
    assert [event.bdf for event in events([*UNSUPPORTED[:5], OLD[1]])] == ["0000:02:00.0", "0000:00:1c.5"]


def test_a_message_without_details_is_an_event_and_so_are_details_without_it() -> None:
    (message,), (details,) = events(NEW[:1]), events(NEW[1:])
    shows(message, {"kind": "aer", "bdf": "0000:02:00.0", "severity": "correctable", "event": None})
    assert details.event == "BadTLP,BadDLLP,Timeout"


def test_an_inaccessible_device() -> None:
    line = f"{GPU}: PCIe Bus Error: severity=Uncorrectable (Fatal), type=Inaccessible, (Unregistered Agent ID)"
    shows(events([line])[0], {"severity": "fatal", "bdf": "0000:02:00.0", "event": None})


@pytest.mark.parametrize(("setting", "severity"), [(0x00100000, "fatal"), (0x00462030, "nonfatal")])
def test_firmware_first(setting: int, severity: str) -> None:
    log = [
        f"{GPU}: AER: aer_status: 0x00100000, aer_mask: 0x00000000",
        f"{GPU}: AER:    [20] UnsupReq               (First)",
        f"{GPU}: AER: aer_layer=Transaction Layer, aer_agent=Requester ID",
        f"{GPU}: AER: aer_uncor_severity: 0x{setting:08x}",
        f"{GPU}: AER:   TLP Header: 20000020 010000ff 00003800 00139000",
    ]
    shows(events(log)[0], {"severity": severity, "event": "UnsupReq", "address": 0x380000139000})


def test_firmware_first_correctable() -> None:
    log = [f"{GPU}: aer_status: 0x00000001, aer_mask: 0x00000000", f"{GPU}:    [ 0] RxErr                 "]
    shows(events(log)[0], {"severity": "correctable", "event": "RxErr"})


def test_a_gpu_that_does_not_answer_takes_three_lines() -> None:
    log = [
        "NVRM: The NVIDIA GPU 0000:c1:00.0",
        "NVRM: (PCI ID: 10de:2330) installed in this system has",
        "NVRM: fallen off the bus and is not responding to commands.",
    ]
    (event,) = decode_whole(["\n".join(log).encode()]).events
    shows(event, {"kind": "device-lost", "family": "nvidia", "bdf": "0000:c1:00.0"})


XIDS: dict[str, dict[str, Any]] = {
    "74, pid=1, name=x, NVLink: fatal error detected on link 14(0x0, 0x0)": {"severity": "fatal", "engine": "link 14"},
    "145, RLW_RXPIPE Nonfatal XC0 i0 Link 13 (0x1 0x2)": {
        "severity": "nonfatal",
        "event": "RLW_RXPIPE",
        "engine": "link 13",
    },
    "149, pid=7, name=a b, NETIR_LINK_EVT Fatal XC0 i0 Link 08 (0x0)": {"severity": "fatal", "engine": "link 8"},
    "154, GPU recovery action changed from 0x0 (None) to 0x4 (Drain and Reset)": {
        "event": "Drain and Reset",
        "reason": 4,
    },
    "119, pid=1, name=x, Timeout after 6s of waiting for RPC response from GPU4 GSP! Expected function 76 "
    "(GSP_RM_CONTROL) (0x1 0x2).": {"event": "GSP_RM_CONTROL", "duration_s": 6.0},
    "94, pid=1, name=x, Contained: CE User Channel (0x9). RST: No, D-RST: No": {"event": "Contained"},
    "95, pid=1, name=x, Uncontained: LTC TAG (0x2, 0x1). RST: Yes, D-RST: No": {"event": "Uncontained"},
    "48, An uncorrectable double bit error (DBE) has been detected on GPU in the framebuffer at physAddr 0x1a2b3c000 "
    "partition 3, subpartition 0.": {"address": 0x1A2B3C000},
    "63, pid=1, name=x, Row Remapper: New row (0x00000000000c1e) marked for remapping, reset gpu": {"address": 0xC1E},
}


@pytest.mark.parametrize("body", XIDS)
def test_what_single_xids_tell(body: str) -> None:
    (event,) = events([f"NVRM: Xid (PCI:0000:01:00): {body}"])
    shows(event, {"xid": int(body.partition(",")[0]), **XIDS[body]})


def test_mig_names_both_instances() -> None:
    shows(
        events(["NVRM: Xid (PCI:0000:3b:00 GPU-I:01 GPU-CI:02): 13, x"])[0], {"gpu_instance": 1, "compute_instance": 2}
    )


@pytest.mark.parametrize("prefix", ["", "<4>[  12.345678] ", "Okt 06 17:59:27 h kernel: ", "[   12.345678][  T33] "])
@pytest.mark.parametrize("log", [smmu("a", 0x100, 0x1000), NEW, OLD, UNSUPPORTED], ids=["smmu", "new", "old", "tlp"])
def test_prefixes_and_strangers_between_change_nothing(prefix: str, log: list[str]) -> None:
    between = [line for one in log for line in (prefix + one, prefix + "usb 1-1: new device")]
    (event,) = decode_whole(["\n".join(between).encode()]).events
    assert event.text == "\n".join(line.rstrip() for line in log)


@pytest.mark.parametrize("log", [smmu("a", 0x100, 0x1000), NEW, OLD, UNSUPPORTED], ids=["smmu", "new", "old", "tlp"])
def test_fed_line_by_line_it_is_the_same(log: list[str]) -> None:
    decoder = LogDecoder()
    fed = [event for line in lines(["\n".join(log).encode()]) for event in decoder.feed(line) or ()]
    assert (*fed, *decoder.finish()) == events(log)
