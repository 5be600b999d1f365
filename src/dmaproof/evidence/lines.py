"""From the bytes of any log to lines: prefix taken off, time kept, memory bounded.

The same kernel message reaches people through many pipes. The prefixes known here are those of ``/dev/kmsg``
(Documentation/ABI/testing/dev-kmsg), ``dmesg`` (plain, ``-T``, ``-d``, ``-x``, with CONFIG_PRINTK_CALLER), syslog
files, ``journalctl`` (short, short-iso, short-monotonic) and serial consoles; they are peeled one after another, since
real logs stack them (``Okt 06 17:59:27 host kernel: [   51.69] ..``).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import BinaryIO

LONGEST_LINE_NBYTES = 16384
"""What is kept of one line. A longer one is not the kernel's: its records end at 8 KiB (CONSOLE_EXT_LOG_MAX)."""

_CHUNK_NBYTES = 1 << 16
_MOST_PREFIXES = 8
_MOST_CONTINUATIONS = 16  # dev_printk adds two


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a log.

    ``text`` is the message without its prefixes, ``raw`` the line as it was found (undecodable bytes replaced).
    ``time`` is the kernel's time stamp in seconds, None where the prefix has none. ``sequence`` and ``priority``
    (facility << 3 | level) are those of a /dev/kmsg record, ``data`` its ``KEY=value`` continuation lines.
    """

    text: str
    raw: str
    time: float | None = None
    sequence: int | None = None
    priority: int | None = None
    data: Mapping[str, str] = field(default_factory=dict)


def chunks(file: BinaryIO) -> Iterator[bytes]:
    """The bytes of ``file`` in pieces of bounded size, for ``lines``: iterating a file would hold a whole line."""
    return iter(functools.partial(file.read, _CHUNK_NBYTES), b"")


def lines(stream: Iterable[bytes]) -> Iterator[Line]:
    """The lines in ``stream``, whose pieces may be cut anywhere (``chunks(file)``, an open file, ``[data]``).

    Blank lines are left out. Of a line longer than LONGEST_LINE_NBYTES the start is kept.
    """
    held: Line | None = None  # a kmsg record, until its continuation lines are all there
    for raw in _split(stream):
        extra = continuation(raw) if held is not None else None
        if held is not None and extra is not None:
            if len(held.data) < _MOST_CONTINUATIONS:
                held = replace(held, data={**held.data, extra[0]: extra[1]}, raw=f"{held.raw}\n{raw}")
            continue
        if held is not None:
            yield from _unfold(held)
            held = None
        line = parse(raw)
        if line.sequence is not None:
            held = line
        elif line.text:
            yield line
    if held is not None:
        yield from _unfold(held)


def record(data: bytes) -> tuple[Line, ...]:
    """The lines in one /dev/kmsg record, as one read() gives it: a message with line breaks gives several."""
    return tuple(lines([data]))


def _split(stream: Iterable[bytes]) -> Iterator[str]:
    kept = bytearray()
    for chunk in stream:
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            kept += chunk[start : min(end, start + LONGEST_LINE_NBYTES - len(kept))]
            yield _text(kept)
            kept.clear()
            start = end + 1
        kept += chunk[start : start + LONGEST_LINE_NBYTES - len(kept)]
    if kept:
        yield _text(kept)


def _text(raw: bytearray) -> str:
    return raw.decode("utf-8", "replace").rstrip("\r")


_CONTINUATION = re.compile(r" ([A-Z][A-Z0-9_]*)=(.*)")


def continuation(raw: str) -> tuple[str, str] | None:
    """``("DEVICE", "+pci:0000:01:00.0")`` for a continuation line of a /dev/kmsg record, else None."""
    match = _CONTINUATION.fullmatch(raw)
    return (match[1], unescape(match[2])) if match else None


_KMSG = re.compile(
    r"(?P<priority>\d{1,6}),(?P<sequence>\d{1,20}),(?P<usec>\d{1,20}),[^;]{0,80};(?P<rest>.*)", re.DOTALL
)
_CLOCK = r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
_KERNEL = r"(?:kernel|[\w./-]{1,40}(?:\[\d+\])?):"
_PREFIXES = tuple(
    re.compile(form)
    for form in (
        r"\s+",
        r"<\d{1,4}>",  # console and syslog priority
        r"\[\s*(?P<time>\d{1,10}\.\d{1,9})(?:\s*<\s*[\d.+]+>)?\s*\]",  # dmesg, dmesg -d
        r"\[\s*[TC]\d{1,7}\s*\]",  # CONFIG_PRINTK_CALLER: thread or CPU
        rf"\[\s*\w{{1,5}}\.? \w{{1,5}}\.?\s+\d{{1,2}} {_CLOCK} \d{{4}}\]",  # dmesg -T: wall clock, not the kernel's
        rf"\S{{1,6}}\s+\d{{1,2}} {_CLOCK} \S{{1,64}} {_KERNEL}",  # syslog, journalctl; month names of any language
        rf"\d{{4}}-\d\d-\d\d[T ]{_CLOCK}\S{{0,6}} \S{{1,64}} {_KERNEL}",  # RFC 5424 times, journalctl -o short-iso
        r"(?:kern|user|daemon|syslog)\s*:\s*(?:emerg|alert|crit|err|warn|notice|info|debug)\s*:",  # dmesg -x
        r"(?:\S{1,64} )?kernel:",  # the time came first: journalctl -o short-monotonic
    )
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
    rest, time = _peel(raw)
    return Line(text=rest.rstrip(), raw=raw, time=time)


def _peel(text: str) -> tuple[str, float | None]:
    time: float | None = None
    for _ in range(_MOST_PREFIXES):
        match = next((found for form in _PREFIXES if (found := form.match(text))), None)
        if match is None:
            break
        if time is None and match.groupdict().get("time"):
            time = float(match["time"])
        text = text[match.end() :]
    return text, time


def unescape(text: str) -> str:
    """``text`` of a /dev/kmsg record with its ``\\xNN`` put back.

    msg_add_ext_text (kernel/printk/printk.c) writes control and non-ASCII bytes so, also line breaks in a message.
    """
    if "\\x" not in text:
        return text
    raw = text.encode("utf-8", "surrogateescape")
    return re.sub(rb"\\x([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]), raw).decode("utf-8", "replace")


def _unfold(line: Line) -> Iterator[Line]:
    """A record's message line by line: old kernels broke a message over two (dmar.c before 4.7)."""
    for part in line.text.split("\n"):
        text, _ = _peel(part)
        if text.strip():
            yield replace(line, text=text.rstrip())
