"""Lines: every prefix that logs put before a kernel message, and bounded memory."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmaproof.evidence.decode import decode
from dmaproof.evidence.lines import LONGEST_LINE_NBYTES, chunks, lines, record

MESSAGE = "NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus."
PREFIXES = {
    "": None,
    "[   51.691440] ": 51.69144,
    "[   51.691440 <    0.000010>] ": 51.69144,
    "[16193.666976][ T1946] ": 16193.666976,
    "[  130.456250] [  C12] ": 130.45625,
    "[Thu Oct 22 08:54:51 2020] ": None,
    "kern  :err   : [   51.691440] ": 51.69144,
    "<3>[    0.500000] ": 0.5,
    "Okt 06 17:59:27 balrog kernel: ": None,
    "Oct  6 17:59:27 host kernel: [   51.691440] ": 51.69144,
    "märz  6 17:59:27 host-1.example kernel: ": None,
    "2026-09-18T21:22:57-07:00 gpu-box kernel: ": None,
    "2026-09-18T21:22:57.123456+02:00 gpu-box kernel: [   51.691440] ": 51.69144,
    "[   51.691440] balrog kernel: ": 51.69144,
    "[    0.941083] kernel: ": 0.941083,
    "6,1234,51691440,-;": 51.69144,
    "kern  :err   : [Thu Oct 22 08:54:51 2020] ": None,
    "[Oct22 08:54] ": None,
    "[  +0.000010] ": None,
    "2026-09-18T21:22:57,123456+02:00 ": None,
    "2026-09-18T21:22:57.123456+0200 gpu-box kernel: ": None,
    "Fri 2026-09-18 21:22:57 CEST gpu-box kernel: ": None,
    "1695063777.123456 gpu-box kernel: ": None,
    "<3>Oct  6 17:59:27 host kernel: [   51.691440] ": 51.69144,
    "<3>1 2026-09-18T21:22:57.123Z gpu-box kernel - - - [   51.691440] ": 51.69144,
    '<3>1 2026-09-18T21:22:57.123Z gpu-box kernel - - [a@1 b="c"][d e="f"] \ufeff': None,
    "\x1b[32m[   51.691440] \x1b[0m\x1b[31m": 51.69144,
    "\0\0[   51.69\x001440] ": 51.69144,
    "\r[   51.691440] ": 51.69144,
    "6,1234,51691440,-,caller=T1946;": 51.69144,
}


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_prefix(prefix: str, end: str) -> None:
    (line,) = lines([(prefix + MESSAGE + end).encode()])
    assert (line.text, line.time) == (MESSAGE, PREFIXES[prefix])


def test_a_message_that_looks_a_little_like_a_prefix_stays() -> None:
    (line,) = lines([b"[drm] Initialized\n"])
    assert line.text == "[drm] Initialized"


def test_kmsg_record_with_continuation_lines() -> None:
    (line,) = record(b"3,77,2500000,-;pcieport 0000:00:01.0: AER\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:01.0\n")
    assert (line.text, line.time, line.sequence, line.priority) == ("pcieport 0000:00:01.0: AER", 2.5, 77, 3)
    assert line.data == {"SUBSYSTEM": "pci", "DEVICE": "+pci:0000:00:01.0"}


def test_kmsg_escapes_are_put_back_and_a_broken_message_gives_its_lines() -> None:
    found = record(b"3,77,2500000,-;one \\xc3\\xa4\\x0aDMAR: two\n DEVICE=n1\n")
    assert [line.text for line in found] == ["one ä", "DMAR: two"]
    assert {line.sequence for line in found} == {77}


def test_an_indented_line_outside_kmsg_is_a_line() -> None:
    assert [line.text for line in lines([b"a\n KEY=value\n"])] == ["a", "KEY=value"]


def test_undecodable_bytes_are_replaced() -> None:
    (line,) = lines([b"\xff\xfe" + MESSAGE.encode()])
    assert line.text == "\ufffd\ufffd" + MESSAGE


def test_a_line_without_end_is_cut_and_the_next_one_read() -> None:
    log = b"x" * (3 * LONGEST_LINE_NBYTES) + b"\n" + MESSAGE.encode()
    first, second = lines(chunks(io.BytesIO(log)))
    assert len(first.raw) == LONGEST_LINE_NBYTES
    assert second.text == MESSAGE


def test_memory_stays_bounded() -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(500):
            yield b"\0" * 65536
        for _ in range(2000):
            yield b"5,1,1,-;" + b"y" * 10000 + b"\n"

    tracemalloc.start()
    assert list(decode(endless())) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_many_continuation_lines_are_bounded_too() -> None:
    tracemalloc.start()
    assert list(decode(b" K%d=" % n + b"v" * 1000 + b"\n" if n else b"5,1,1,-;x\n" for n in range(5000))) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


@given(st.binary(max_size=300))
def test_any_bytes_give_lines(data: bytes) -> None:
    for line in lines([data]):
        assert line.text
        assert "\n" not in line.text
