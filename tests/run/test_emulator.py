"""What is asked of an emulator's trace, against lines that QEMU 11.1 wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmaproof.node.node import Node
from fixtures.emulator import Emulator, complaint, trace_of
from fixtures.refusals import Refusal

WRITE = Refusal("0000:01:00.0", "write", 0xD0000000, 8)
FIRST = "2026-11-21T17:38:42.886469Z vtd_dmar_fault sid 0x100 fault 5 addr 0xd0000000 write 1\n"
SECOND = FIRST.replace("0xd0000000", "0xd0000004")


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    trace = tmp_path / "trace.txt"
    trace.write_text(FIRST.replace("0x100", "0x200"), encoding="utf-8")  # of an earlier test
    return trace


def said(trace: Path, emulator: Emulator, *lines: str) -> str:
    with trace.open("a", encoding="utf-8") as file:
        file.writelines(lines)
    return complaint(emulator.refused(), WRITE) or ""


def test_just_what_was_refused_is_no_complaint(trace: Path) -> None:
    assert said(trace, Emulator(trace), FIRST, SECOND) == ""


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ((), "the emulator knows of no refusal"),
        ((FIRST.replace("0x100", "0x200"),), "the emulator refused 0000:02:00.0"),
        ((FIRST.replace("write 1", "write 0"),), "the emulator refused a read"),
        ((FIRST, SECOND.replace("0xd0000004", "0xd0000008")), "not about 0xd0000000 and the 8 bytes from there"),
        ((SECOND,), "the emulator refused none before"),
        (("vtd_dmar_fault",), "the emulator knows of no refusal"),
    ],
)
def test_anything_else_is_told(trace: Path, lines: tuple[str, ...], told: str) -> None:
    assert told in said(trace, Emulator(trace), *lines)


def test_a_real_machine_has_no_emulator(tmp_path: Path) -> None:
    assert trace_of(Node("host")) is None
    assert trace_of(Node("box", tmp_path / "root", {}, tmp_path / "agent")) == tmp_path / "trace.txt"
