"""Which lines of a log are worth a decoder's time, found in whole blocks of bytes: most logs are nearly all others.

A search for plain text runs at the speed of memory, a Python statement a line does not. So a block is searched for
every needle of every decoder; only where one is, a line is cut out. The rest are counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from math import inf

from dmaproof.evidence.event import Event
from dmaproof.evidence.journal import MARKS
from dmaproof.evidence.lines import Line, blocks, continued, parse, text_of
from dmaproof.evidence.loss import gap

_DENSE = 0.25  # of the lines have a needle: from there on every line is looked at, which then is cheaper
_SAMPLE = 8  # of the lines of a storm's block, one in so many tells whether it goes on
_LOOKED_AT = 200  # lines of a block, for one that only a kernel log has
_REPORT_NBYTES = 1 << 16
_LATER = re.compile(rb"\n\d{1,6},\d{1,20},\d{1,20},[^;\n]{0,80};")
_RECORD = re.compile(rb"\d{1,6},(?P<sequence>\d{1,20}),(?P<usec>\d{1,20}),[^;]{0,80};")
_SUBSYSTEM = re.compile(r"[A-Za-z][\w .:/-]{1,40}: \S", re.ASCII)  # how nearly every kernel message begins


class Sieve:
    """Goes over one log. ``lines`` counts its lines so far, less blank ones and the ``KEY=value`` lines of records;
    ``recognised`` is whether anything in it looked like a kernel's log. Lines with one of ``further`` are found only
    from a block with one of ``openings`` on, for as long as a report may be."""

    def __init__(self, needles: Iterable[str], openings: Iterable[str] = (), further: Iterable[str] = ()) -> None:
        self._needles = tuple(dict.fromkeys(needle.encode() for needle in (*needles, *MARKS)))
        self._openings = tuple(needle.encode() for needle in openings)
        self._further = tuple(needle.encode() for needle in further)
        self._any = re.compile(b"|".join(map(re.escape, (*self._needles, *self._openings, *self._further))))
        self._open_nbytes = 0
        self.lines = 0
        self.recognised = False
        self._dense = False
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
                yield self._plain(block)
        yield from self._release()

    def _plain(self, block: bytes) -> list[bytes]:
        """The lines of ``block`` with a needle; all lines of a storm, whose blocks are not worth the search."""
        if self._dense:
            found = [raw for raw in block.split(b"\n") if raw]
            self._dense = sum(map(self.may_hold, found[::_SAMPLE])) > _DENSE * len(found) / _SAMPLE
            self._open_nbytes = _REPORT_NBYTES  # nobody has looked for an opening in it
            return found
        most = int(_DENSE * block.count(b"\n"))
        starts = self._hits(block, most)
        self._dense = len(starts) > most
        if self._dense:
            return [raw for raw in block.split(b"\n") if raw]
        return [block[start : block.find(b"\n", start)] for start in starts]

    def _hits(self, block: bytes, most: float = inf) -> list[int]:
        """Where the lines with a needle begin; ends early where there are more than ``most``."""
        found: set[int] = set()
        for needle in self._searched(block):
            at = block.find(needle)
            while at >= 0:
                found.add(block.rfind(b"\n", 0, at) + 1)
                if len(found) > most:
                    return sorted(found)
                at = block.find(needle, block.find(b"\n", at))
        return sorted(found)

    def _searched(self, block: bytes) -> tuple[bytes, ...]:
        """What to search ``block`` for."""
        opens = any(needle in block for needle in self._openings)
        if opens:
            self._open_nbytes = _REPORT_NBYTES
        elif self._open_nbytes <= 0:
            return self._needles
        else:
            self._open_nbytes -= len(block)
        return (*self._needles, *self._openings, *self._further)

    def may_hold(self, raw: bytes) -> bool:
        """Whether a needle is in ``raw``."""
        return self._any.search(raw) is not None

    def _records(self, block: bytes) -> Iterator[list[bytes] | Line | Event]:
        """As ``_plain``, for a log that holds /dev/kmsg records: their further lines belong to them, and their
        numbers tell what is missing."""
        found = set(self._hits(block))
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
