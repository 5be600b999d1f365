"""From the bytes of any log to lines: prefix taken off, time kept, memory bounded.

The same kernel message reaches people through many pipes: ``/dev/kmsg`` (Documentation/ABI/testing/dev-kmsg), dmesg,
syslog, the journal as text or JSON, serial consoles. See dmaproof.evidence.prefixes and dmaproof.evidence.journal.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import BinaryIO

from dmaproof.evidence.journal import entry
from dmaproof.evidence.line import Line as Line
from dmaproof.evidence.prefixes import peel

LONGEST_LINE_NBYTES = 16384
"""What is kept of one line. A longer one is not the kernel's: its records end at 8 KiB (CONSOLE_EXT_LOG_MAX)."""

_CHUNK_NBYTES = 1 << 16
_MOST_CONTINUATIONS = 16  # dev_printk adds two
_COLOUR = re.compile(rb"\x1b\[[0-9;:]{0,30}[mK]")


def chunks(file: BinaryIO) -> Iterator[bytes]:
    """The bytes of ``file`` in pieces of bounded size, for ``lines``: iterating a file would hold a whole line."""
    return iter(functools.partial(file.read, _CHUNK_NBYTES), b"")


def lines(stream: Iterable[bytes]) -> Iterator[Line]:
    """The lines in ``stream``, whose pieces may be cut anywhere (``chunks(file)``, an open file, ``[data]``).

    Blank lines are left out. Of a line longer than LONGEST_LINE_NBYTES the start is kept.
    """
    held: Line | None = None  # a kmsg record, until its continuation lines are all there
    for block in blocks(stream):
        for raw in block.removesuffix(b"\n").split(b"\n"):
            if held is not None:
                more = continued(held, raw)
                if more is not None:
                    held = more
                    continue
                yield from unfold(held)
                held = None
            if not raw.strip():
                continue
            line = parse(text_of(raw))
            if line.sequence is not None:
                held = line
            else:
                yield from unfold(line)
    if held is not None:
        yield from unfold(held)


def record(data: bytes) -> tuple[Line, ...]:
    """The lines in one /dev/kmsg record, as one read() gives it: a message with line breaks gives several."""
    return tuple(lines([data]))


def blocks(stream: Iterable[bytes]) -> Iterator[bytes]:
    """``stream`` in pieces of whole lines, without the colour codes and NULs that consoles add; what a piece of the
    stream completes comes at once. Of a line without an end, LONGEST_LINE_NBYTES are held."""
    kept = b""
    for chunk in stream:
        for start in range(0, len(chunk), _CHUNK_NBYTES):
            piece = chunk[start : start + _CHUNK_NBYTES]
            end = piece.rfind(b"\n") + 1
            if end == 0:
                kept = (kept + piece)[:LONGEST_LINE_NBYTES]
                continue
            yield _clean(kept + piece[:end])
            kept = piece[end:][:LONGEST_LINE_NBYTES]
    if kept:
        yield _clean(kept)


def _clean(block: bytes) -> bytes:
    if b"\0" in block:  # a serial line that was switched on, or a log in UTF-16
        block = block.replace(b"\0", b"")
    return _COLOUR.sub(b"", block) if b"\x1b" in block else block


def text_of(raw: bytes) -> str:
    return raw[:LONGEST_LINE_NBYTES].decode("utf-8", "replace").strip("\r")


_CONTINUATION = re.compile(r" ([A-Z][A-Z0-9_]*)=(.*)")


def continuation(raw: str) -> tuple[str, str] | None:
    """``("DEVICE", "+pci:0000:01:00.0")`` for a continuation line of a /dev/kmsg record, else None."""
    match = _CONTINUATION.fullmatch(raw)
    return (match[1], unescape(match[2])) if match else None


def continued(held: Line, raw: bytes) -> Line | None:
    """The record ``held`` with its further line ``raw``; None where ``raw`` is not one of its lines."""
    extra = continuation(text_of(raw)) if raw.startswith(b" ") else None
    if extra is None:
        return None
    if len(held.data) >= _MOST_CONTINUATIONS:
        return held
    return replace(held, data={**held.data, extra[0]: extra[1]}, raw=f"{held.raw}\n{text_of(raw)}")


_KMSG = re.compile(
    r"(?P<priority>\d{1,6}),(?P<sequence>\d{1,20}),(?P<usec>\d{1,20}),[^;]{0,80};(?P<rest>.*)", re.DOTALL
)


def parse(raw: str) -> Line:
    """``raw``, one line without its end, with the prefixes that it has taken off."""
    match = _KMSG.fullmatch(raw)
    if match is not None:
        return Line(
            text=unescape(match["rest"]),
            raw=raw,
            time=int(match["usec"]) / 1e6,
            sequence=int(match["sequence"]),
            priority=int(match["priority"]),
        )
    line = entry(raw)
    if line is not None:
        return line
    rest, time = peel(raw)
    return Line(text=rest.rstrip(), raw=raw, time=time)


def unescape(text: str) -> str:
    """``text`` of a /dev/kmsg record with its ``\\xNN`` put back.

    msg_add_ext_text (kernel/printk/printk.c) writes control and non-ASCII bytes so, also line breaks in a message.
    """
    if "\\x" not in text:
        return text
    raw = text.encode("utf-8", "surrogateescape")
    return re.sub(rb"\\x([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]), raw).decode("utf-8", "replace")


def unfold(line: Line) -> Iterator[Line]:
    """A message line by line: old kernels broke one over two (dmar.c before 4.7), NVIDIA's driver does over three."""
    if line.sequence is None and "\n" not in line.text and not line.raw.startswith("{"):
        if line.text:
            yield line
        return
    for part in line.text.split("\n"):
        text, time = peel(part)
        if text.strip():
            yield replace(line, text=text.rstrip(), time=line.time if line.time is not None else time)
