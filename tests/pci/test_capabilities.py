"""Resizable BARs, AER, DPC and CXL: decoded from configuration spaces built by hand, and held against lspci."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmaproof.pci.config import ConfigSpace, parse
from dmaproof.pci.containment import Aer, Dpc
from dmaproof.pci.extensions import Cxl, CxlDevice, CxlPort, ResizableBar
from tests.pci.machine_tree import acs, express, extended, gpu_config, header

AER, REBAR, DPC, DVSEC, CXL = 0x01, 0x15, 0x1D, 0x23, 0x1E98
UNSUPPORTED, ACS_VIOLATION = 1 << 20, 1 << 21


def space(*entries: tuple[int, bytes], port: int = 0) -> bytes:
    return bytes(extended(express(header(), port=port), *entries))


def aer(status: int, *, mask: int = 0, severity: int = 0, correctable: int = 0, first: int = 0) -> tuple[int, bytes]:
    return AER, struct.pack("<IIIIII", status, mask, severity, correctable, 0x2000, first)


def dpc(control: int, status: int, source: int = 0) -> tuple[int, bytes]:
    return DPC, struct.pack("<HHHH", 0, control, status, source)


def rebar(*bars: tuple[int, int, int]) -> tuple[int, bytes]:
    """Each bar: index, bits of the sizes that it can have, exponent of the one it has; 0 is 1 MiB."""
    words = [
        (sizes << 4 & 0xFFFFFFFF, index | len(bars) << 5 | now << 8 | sizes >> 28 << 16) for index, sizes, now in bars
    ]
    return REBAR, b"".join(struct.pack("<II", *pair) for pair in words)


def dvsec(identity: int, *registers: tuple[int, int], vendor: int = CXL) -> tuple[int, bytes]:
    body = bytearray(0x3C)
    struct.pack_into("<IH", body, 0, vendor | 1 << 16 | 0x38 << 20, identity)
    for offset, value in registers:
        struct.pack_into("<H", body, offset - 4, value)
    return DVSEC, bytes(body)


def test_aer_names_errors_as_the_kernel_does() -> None:
    entry = aer(UNSUPPORTED | ACS_VIOLATION, mask=1 << 14, severity=ACS_VIOLATION, correctable=0x1041, first=21)
    assert parse(space(entry)).aer == Aer(
        uncorrectable=("UnsupReq", "ACSViol"),
        uncorrectable_masked=("CmpltTO",),
        fatal=("ACSViol",),
        correctable=("RxErr", "BadTLP", "Timeout"),
        correctable_masked=("NonFatalErr",),
        first="ACSViol",
    )


def test_a_first_error_pointer_without_its_error_means_nothing() -> None:
    found = parse(space(aer(UNSUPPORTED, first=21))).aer
    assert isinstance(found, Aer)
    assert found.first is None


def test_an_error_that_has_no_name_yet_is_told_by_its_bit() -> None:
    found = parse(space(aer(1 << 2, first=2))).aer
    assert isinstance(found, Aer)
    assert (found.uncorrectable, found.first) == (("bit 2",), "bit 2")


@pytest.mark.parametrize(
    ("control", "status", "expected"),
    [
        (0x0, 0x0, Dpc(trigger="off", interrupt=False, triggered=False, reason=None, source=None, status=0)),
        (0x9, 0x0, Dpc(trigger="fatal", interrupt=True, triggered=False, reason=None, source=None, status=0)),
        (
            0xA,
            0x1,
            Dpc(trigger="nonfatal", interrupt=True, triggered=True, reason="uncorrectable", source=None, status=1),
        ),
        (
            0xA,
            0x3,
            Dpc(trigger="nonfatal", interrupt=True, triggered=True, reason="nonfatal-message", source=0x200, status=3),
        ),
        (
            0x9,
            0x5,
            Dpc(trigger="fatal", interrupt=True, triggered=True, reason="fatal-message", source=0x200, status=5),
        ),
        (0x9, 0x7, Dpc(trigger="fatal", interrupt=True, triggered=True, reason="rp-pio", source=None, status=7)),
        (0x9, 0x27, Dpc(trigger="fatal", interrupt=True, triggered=True, reason="software", source=None, status=0x27)),
    ],
)
def test_dpc(control: int, status: int, expected: Dpc) -> None:
    assert parse(space(dpc(control, status, 0x200), port=4)).dpc == expected


def test_resizable_bars() -> None:
    found = parse(space(rebar((1, 0x1FFC0, 16), (3, 0b11, 0)))).rebar
    gib = 1 << 30
    assert isinstance(found, tuple)
    assert found[0] == ResizableBar(1, 64 * gib, tuple(1 << bit for bit in range(26, 37)))
    assert found[1] == ResizableBar(3, 1 << 20, (1 << 20, 1 << 21))


def test_sizes_beyond_128_tib() -> None:
    found = parse(space(rebar((0, 1 << 30 | 1 << 27, 30)))).rebar
    assert found == (ResizableBar(0, 1 << 50, (1 << 47, 1 << 50)),)


@pytest.mark.parametrize(("can", "kind"), [(0x1, 1), (0x5, 2), (0x4, 3), (0x2, None)])
def test_cxl_types(can: int, kind: int | None) -> None:
    found = parse(space(dvsec(0, (0x0A, can | 2), (0x0C, 0x4)), dvsec(7, (0x0E, can)))).cxl
    cache, mem = bool(can & 1), bool(can & 4)
    assert found == Cxl(CxlDevice(cache, mem, False, True), CxlPort(cache, mem))
    assert isinstance(found.device, CxlDevice)
    assert found.device.type == kind


def test_another_vendors_dvsec_is_no_cxl() -> None:
    assert parse(space(dvsec(0, (0x0A, 5), vendor=0x8086))).cxl == "absent"


def test_a_cxl_port_alone_says_that_no_device_is_there() -> None:
    assert parse(space(dvsec(7, (0x0E, 0x5)))).cxl == Cxl("absent", CxlPort(True, True))


def four(found: ConfigSpace) -> tuple[object, ...]:
    return found.rebar, found.aer, found.dpc, found.cxl


def test_what_was_not_read_is_unknown_never_off() -> None:
    whole = space(rebar((0, 1, 0)), aer(0), dpc(0, 0), dvsec(0))
    assert four(parse(gpu_config())) == ("absent",) * 4
    for nbytes in (0, 64, 256):
        assert four(parse(whole[:nbytes])) == ("unknown",) * 4
    assert four(parse(b"\xff" * 4096)) == ("unknown",) * 4


@given(st.binary(max_size=0x140), st.integers(0, 0x240))
def test_any_registers_cut_anywhere(content: bytes, end: int) -> None:
    """The lists are sound, the registers anything, and the read may end in the midst of them."""
    bodies = [content[place * 0x3C : (place + 1) * 0x3C] for place in range(4)]
    data = space(*zip((AER, DPC, REBAR, DVSEC), bodies, strict=True))
    found = parse(data[:end])
    for name in ("rebar", "aer", "dpc", "cxl"):
        value, whole = getattr(found, name), getattr(parse(data), name)
        assert value in (whole, "unknown")


def dump(data: bytes) -> str:
    """``data`` as ``lspci -xxxx`` prints it."""
    rows = (f"{offset:02x}: {data[offset : offset + 16].hex(' ')}" for offset in range(0, len(data), 16))
    return "\n".join(["00:01.0 PCI bridge: made up", *rows, ""])


def lspci(data: bytes, folder: Path) -> str:
    program = shutil.which("lspci")
    if program is None:
        pytest.skip("lspci (pciutils) is not installed")
    (folder / "dump").write_text(dump(data))
    done = subprocess.run([program, "-vvv", "-F", str(folder / "dump")], capture_output=True, text=True, check=True)
    return done.stdout


def flags(line: str, text: str) -> set[str]:
    """The names with a plus in lspci's ``line``."""
    (match,) = re.findall(rf"^\s*{line}:\s*(.*)$", text, re.MULTILINE)
    return set(re.findall(r"(\w+)\+", match))


@pytest.mark.parametrize("bits", [0, 0x5A5A5A5A, 0xA5A5A5A5, 0xFFFFFFFF, 0x00300000])
def test_lspci_agrees(bits: int, tmp_path: Path) -> None:
    """pciutils is written by other people from the same specification."""
    control = bits & 0x7F
    data = space(
        aer(bits, mask=~bits & 0xFFFFFFFF, severity=bits, correctable=bits), acs(control), dpc(0x9, 0x5, 0x100)
    )
    text, found = lspci(data, tmp_path), parse(data)
    assert isinstance(found.aer, Aer)
    assert not isinstance(found.acs, str)
    common = {"DLP", "SDES", "TLP", "FCP", "CmpltTO", "CmpltAbrt", "RxOF", "ECRC", "UnsupReq", "ACSViol"}
    for line, names in (
        ("UESta", found.aer.uncorrectable),
        ("UEMsk", found.aer.uncorrectable_masked),
        ("UESvrt", found.aer.fatal),
    ):
        assert flags(line, text) & common == set(names) & common
    common = {"RxErr", "BadTLP", "BadDLLP", "Rollover", "Timeout"}
    assert flags("CESta", text) & common == set(found.aer.correctable) & common
    short = {"SrcValid": "SV", "TransBlk": "TB", "ReqRedir": "RR", "CmpltRedir": "CR", "UpstreamFwd": "UF",
             "EgressCtrl": "EC", "DirectTrans": "DT"}  # fmt: skip
    assert {short[name] for name in flags("ACSCtl", text)} == set(found.acs.control)
    assert "Trigger+" in text
    assert re.search(r"Source:\s*0100", text)


def test_lspci_agrees_on_cxl_and_resizable_bars(tmp_path: Path) -> None:
    data = space(rebar((1, 0x1FFC0, 16)), dvsec(0, (0x0A, 0x5), (0x0C, 0x4)))
    text, found = lspci(data, tmp_path), parse(data)
    assert "BAR 1: current size: 64GB, supported: 64MB 128MB 256MB 512MB 1GB 2GB 4GB 8GB 16GB 32GB 64GB" in text
    assert isinstance(found.cxl, Cxl)
    assert isinstance(found.cxl.device, CxlDevice)
    assert re.search(r"CXLCap:\s*Cache\+ IO- Mem\+", text)
    assert found.cxl.device.type == 2
