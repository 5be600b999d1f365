"""Which lines of a log are worth a decoder's time, found in whole blocks of bytes: most logs are nearly all others.

A Python statement a line is dear, and so is a search for each of some fifty needles. ahocorasick_rs looks for all of
them at once, at the speed of one search; only where one is, a line is cut out. The rest are counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ahocorasick_rs import BytesAhoCorasick, MatchKind

from dmaproof.evidence.event import Event
from dmaproof.evidence.journal import MARKS
from dmaproof.evidence.lines import Line, blocks, continued, parse, text_of
from dmaproof.evidence.loss import gap

_LOOKED_AT = 200  # lines of a block, for one that only a kernel log has
_LATER = re.compile(rb"\n\d{1,6},\d{1,20},\d{1,20},[^;\n]{0,80};")
_RECORD = re.compile(rb"\d{1,6},(?P<sequence>\d{1,20}),(?P<usec>\d{1,20}),[^;]{0,80};")
_SUBSYSTEM = re.compile(r"[A-Za-z][\w .:/-]{1,40}: \S", re.ASCII)  # how nearly every kernel message begins


class Sieve:
    """Goes over one log. ``lines`` counts its lines so far, less blank ones and the ``KEY=value`` lines of records;
    ``recognised`` is whether anything in it looked like a kernel's log."""

    def __init__(self, needles: Iterable[str]) -> None:
        sought = dict.fromkeys(needle.encode() for needle in (*needles, *MARKS))
        # Leftmost: the library then searches with vectors. A needle that overlaps another is on the same line.
        self._search = BytesAhoCorasick(sought, MatchKind.LeftmostFirst).find_matches_as_indexes
        self.lines = 0
        self.recognised = False
        self._held: Line | None = None  # a record with a needle in it, until its further lines are all there
        self._in_record = False
        self._sequence: int | None = None

    def run(self, stream: Iterable[bytes]) -> Iterator[list[bytes] | Line | Event]:
        """What of ``stream`` may be known to a decoder: lines as raw bytes, a whole /dev/kmsg record as a Line, and
        an Event for a gap between two records."""
        for block in blocks(stream):
            block = block if block.endswith(b"\n") else block + b"\n"
            if not self.recognised:
                self.recognised = _kernels(block)
            if self._in_record or _RECORD.match(block) or (b";" in block and _LATER.search(block)):
                yield from self._records(block)
            else:
                self.lines += _count(block)
                yield [block[start:end] for start, end in self._hits(block)]
        yield from self._release()

    def _hits(self, block: bytes) -> Iterator[tuple[int, int]]:
        """Where the lines with a needle begin and end."""
        end = -1
        for _, at, _ in self._search(block):
            if at > end:
                end = block.find(b"\n", at)
                yield block.rfind(b"\n", 0, at) + 1, end

    def _records(self, block: bytes) -> Iterator[list[bytes] | Line | Event]:
        """Of a log that holds /dev/kmsg records: their further lines belong to them, and their numbers tell what is
        missing."""
        found = {start for start, _ in self._hits(block)}
        start = 0
        for raw in block.removesuffix(b"\n").split(b"\n"):
            hit, start = start in found, start + len(raw) + 1
            match = _RECORD.match(raw)
            if match is None:
                yield from self._other(raw, hit)
                continue
            yield from self._release()
            self.lines += 1
            self._in_record = True
            yield from self._gap(int(match["sequence"]), int(match["usec"]))
            if hit:
                self._held = parse(text_of(raw))

    def _other(self, raw: bytes, hit: bool) -> Iterator[list[bytes] | Line]:
        if self._in_record and raw.startswith(b" "):
            more = continued(self._held or Line(text="", raw=""), raw)
            if more is not None:
                self._held = more if self._held is not None else None
                return
        yield from self._release()
        self._in_record = False
        if raw.strip():
            self.lines += 1
            if hit:
                yield [raw]

    def _gap(self, sequence: int, usec: int) -> Iterator[Event]:
        before, self._sequence = self._sequence, sequence
        if before is not None and sequence > before + 1:
            yield gap(before, sequence, usec / 1e6)

    def _release(self) -> Iterator[Line]:
        held, self._held = self._held, None
        if held is not None:
            yield held


def _count(block: bytes) -> int:
    """Lines of ``block`` that are not blank."""
    return sum(map(bool, map(bytes.strip, block.split(b"\n"))))


def _kernels(block: bytes) -> bool:
    """Whether one of the first lines has a prefix that some pipe of kernel messages writes, or begins with a name as
    the kernel's messages do."""
    return any(_is_kernels(parse(text_of(raw))) for raw in block.split(b"\n", _LOOKED_AT)[:_LOOKED_AT] if raw.strip())


def _is_kernels(line: Line) -> bool:
    return line.text.strip() != line.raw.strip() or _SUBSYSTEM.match(line.text) is not None
