"""``dmaproof audit-trace`` on real traces, and on all that is none."""

from __future__ import annotations

import gzip
import json
import subprocess
import time
from pathlib import Path

import pytest

from dmaproof.errors import UsageError
from dmaproof.guest import program
from tests.support.console import dmaproof

FOLDER = Path(__file__).parents[1] / "guest" / "traces"
PCI = FOLDER / "edu.pci.json"


def path(name: str) -> Path:
    return FOLDER / f"{name}.trace"


@pytest.mark.parametrize("more", [("--pci", PCI), ()])
def test_a_healthy_trace_ends_with_0(more: tuple[str | Path, ...]) -> None:
    said = dmaproof("audit-trace", path("edu-iommufd"), *more)
    assert (said.status, said.err) == (0, "")
    assert said.out == "iommufd, 127 events in 138 lines: 0 findings, 2 ranges of device memory judged\n"


def test_a_hole_is_told_with_device_range_reason_and_consequence() -> None:
    said = dmaproof("audit-trace", path("edu-type1-no-mmap"), "--pci", PCI, env={"COLUMNS": "200"})
    assert (said.status, said.err) == (1, "")
    for word in ("02:00.0 BAR0 (host 0000:02:00.0)", "0xfe200000", "0xfe2fffff", "x-no-mmap=on", "P2P and ATS to this"):
        assert word in said.out
    assert "not seen:\n  - type1: QEMU does not trace its map calls" in said.out


def test_json_has_all_of_it() -> None:
    said = dmaproof("audit-trace", "--json", path("edu-iommufd-efault"), "--pci", PCI)
    found = json.loads(said.out)
    assert said.status == 1
    assert (found["schema"], found["backend"], found["left_out"]) == (1, "iommufd", [])
    assert [(one["why"], one["guest"], one["host"], one["bar"]) for one in found["findings"]] == [
        ("map-failed", "01:00.0", "0000:01:00.0", 0), ("map-failed", "02:00.0", "0000:02:00.0", 0),
    ]  # fmt: skip
    assert (found["findings"][1]["first"], found["findings"][1]["last"]) == (0xFE200000, 0xFE2FFFFF)
    assert found["findings"][0]["consequence"] == "P2P and ATS to this range will fault"
    assert len(found["judged"]) == 2
    assert any("errno" in spot for spot in found["blind_spots"])


def test_what_is_known_besides_is_taken() -> None:
    said = dmaproof(
        "audit-trace", "--json", path("edu-type1"), "--pci", PCI, "--device", "01:00.0=0000:02:00.0",
        "--device", "0000:02:00.0=0000:01:00.0", "--range", "hdm0=0x8000000000-0x8fffffffff", "--width", "39",
        "--reserved", "0xfee00000-0xfeefffff",
    )  # fmt: skip
    found = json.loads(said.out)
    assert [(one["why"], one["name"]) for one in found["findings"]] == [("too-wide", "hdm0")]
    assert found["judged"][0]["device"] == "01:00.0 BAR0 (host 0000:02:00.0)"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["/no/such/file"], "cannot read /no/such/file: No such file or directory"),
        (["/"], "cannot read /: Is a directory"),
        (["/dev/null"], "/dev/null holds no trace event of QEMU's VFIO in 0 lines: have QEMU write them with -trace"),
        (["/dev/zero"], "cannot read /dev/zero: this device never ends"),
        ([PCI], "holds no trace event of QEMU's VFIO in 0 lines"),
        ([path("edu-type1"), "--pci", path("edu-type1")], "is not the JSON that query-pci answers: Expecting value"),
        ([path("edu-type1"), "--pci", "/no/such/file"], "cannot read /no/such/file"),
        ([path("edu-type1"), "--device", "1=2"], "--device '1=2': write GUEST=HOST, such as 01:00.0=0000:17:00.0"),
        ([path("edu-type1"), "--device", "01:00.0=x"], "'x' is not a PCI address"),
        ([path("edu-type1"), "--range", "0x1-0x2"], "--range '0x1-0x2': write NAME=FIRST-LAST"),
        ([path("edu-type1"), "--reserved", "0x2-0x1"], "--reserved '0x2-0x1': write FIRST-LAST"),
        ([path("edu-type1"), "--width", "99"], "--width"),
        ([path("edu-type1"), "--qmp", "/no/such/socket"], "QEMU's monitor socket: "),
        ([path("edu-type1"), "--qmp", "/no/such/socket", "--pci", PCI], "give one"),
        ([], "missing argument 'FILE'"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_line(arguments: list[str | Path], said: str) -> None:
    assert said in dmaproof("audit-trace", *arguments).complaint


@pytest.mark.parametrize(
    "text",
    [b"{}", b"[]", b'{"return": 3}', b'[{"devices": [{"bus": 0}]}]', b"[" * 100_000, b"\xff\xfe", b'{"return": [1]}',
     b'[{"bus": 0, "devices": [{"bus": 0, "slot": 1, "function": 0, "regions": [{"bar": 0, "type": "memory", '
     b'"address": "x", "size": 4096}]}]}]'],
)  # fmt: skip
def test_a_pci_file_of_anything(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "pci.json").write_bytes(text)
    said = dmaproof("audit-trace", path("edu-type1"), "--pci", tmp_path / "pci.json")
    if text == b"[]":
        assert said.status == 0
        assert "0 ranges of device memory judged" in said.out
        assert "where the guest has its BARs is not known" in said.out
    else:
        assert "is not " in said.complaint


def test_a_trace_of_any_bytes_with_a_cut_end(tmp_path: Path) -> None:
    whole = path("edu-iommufd").read_bytes()
    cut = b"vfio_listener_region_del region_del 0x"
    (tmp_path / "trace").write_bytes(b"\xff\x00\x1b[2J\n" + whole + b"\xf0\n" + cut)
    said = dmaproof("audit-trace", tmp_path / "trace", "--pci", PCI)
    assert (said.status, said.err) == (0, "")
    assert "the last line has no end" in said.out
    assert "\x1b" not in said.out


def test_the_iommus_own_tables_are_taken(tmp_path: Path) -> None:
    for name in ("edu-type1", "edu-type1-no-mmap"):
        (tmp_path / name).write_bytes(gzip.decompress((FOLDER / f"{name}.tables.gz").read_bytes()))
    same = dmaproof("audit-trace", path("edu-type1"), "--pci", PCI, "--table", tmp_path / "edu-type1")
    assert (same.status, "not seen" in same.out) == (0, False)
    other = dmaproof("audit-trace", path("edu-type1"), "--pci", PCI, "--table", tmp_path / "edu-type1-no-mmap")
    assert other.status == 1
    assert "holds no page" in dmaproof("audit-trace", path("edu-type1"), "--table", PCI).complaint


def test_a_running_qemu_is_asked(tmp_path: Path) -> None:
    """It has none of the trace's devices: their BARs are not judged, and that is said."""
    try:
        qemu = program.choose(program.AUTO, "x86_64", ())
    except UsageError as error:
        pytest.skip(str(error))
    socket = tmp_path / "qmp"
    words = ["-machine", "q35,accel=tcg", "-m", "64", "-nodefaults", "-display", "none", "-S"]
    with subprocess.Popen([*qemu.argv, *words, "-qmp", f"unix:{socket},server=on,wait=off"]) as running:
        try:
            deadline_s = time.monotonic() + 30
            while not socket.exists() and time.monotonic() < deadline_s:
                time.sleep(0.05)
            said = dmaproof("audit-trace", path("edu-type1"), "--qmp", socket)
        finally:
            running.kill()
    assert (said.status, said.err) == (0, "")
    assert "0 ranges of device memory judged" in said.out
    assert "no function of the guest is known to be 0000:01:00.0" in said.out
