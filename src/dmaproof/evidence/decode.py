"""From a log to events: every decoder is asked about every line that could be its own.

A new family is one module and one entry in DECODERS.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dmaproof.evidence.aer import AerDecoder
from dmaproof.evidence.amdvi import AmdViDecoder
from dmaproof.evidence.ats_setup import AtsSetupDecoder
from dmaproof.evidence.bar import BarDecoder
from dmaproof.evidence.decoder import Decoder
from dmaproof.evidence.device_lost import DeviceLostDecoder
from dmaproof.evidence.dpc import DpcDecoder
from dmaproof.evidence.event import Event, Mould, cast, mould
from dmaproof.evidence.hung_task import HungTaskDecoder
from dmaproof.evidence.kernel_crash import KernelCrashDecoder
from dmaproof.evidence.lines import Line, parse, text_of, unfold
from dmaproof.evidence.link import LinkDecoder
from dmaproof.evidence.loss import LossDecoder
from dmaproof.evidence.p2pdma import P2pdmaDecoder
from dmaproof.evidence.prefixes import messages, peel
from dmaproof.evidence.sieve import Sieve
from dmaproof.evidence.smmuv2 import SmmuV2Decoder
from dmaproof.evidence.smmuv3 import SmmuV3Decoder
from dmaproof.evidence.virtio_iommu import VirtioIommuDecoder
from dmaproof.evidence.vtd import VtdDecoder
from dmaproof.evidence.xid import XidDecoder

DECODERS: tuple[Callable[[], Decoder], ...] = (
    VtdDecoder,
    AmdViDecoder,
    SmmuV3Decoder,
    SmmuV2Decoder,
    VirtioIommuDecoder,
    XidDecoder,
    DpcDecoder,
    AerDecoder,
    DeviceLostDecoder,
    P2pdmaDecoder,
    HungTaskDecoder,
    KernelCrashDecoder,
    AtsSetupDecoder,
    BarDecoder,
    LinkDecoder,
    LossDecoder,
)
"""One a family, asked in this order; the first that knows a line has it."""

_MOST_REMEMBERED = 4096
_LONGEST_WAIT_S = 1.0
# The prefixes that storms come with: those of dmesg and syslog; any other is taken off piece by piece.
_PREFIX = re.compile(
    rb"(?:<\d{1,4}>)?"
    rb"(?:(?:[A-Za-z]{3} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT[\d:.,+-]{8,28}Z?) [\w.-]{1,64} kernel: )?"
    rb"(?:\[ {0,6}(\d{1,10}\.\d{1,9})\](?:\[ {0,5}[TC]\d{1,7}\])? )?(?=[A-Za-z])"
)


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a whole log held: its events, its count of lines that are not blank, and how many of them nobody knew."""

    events: tuple[Event, ...]
    lines: int
    unknown: int


class LogDecoder:
    """Decodes one log; ``lines`` and ``unknown`` count what was read so far. A log is fed line by line or run whole.

    ``also`` are needles of lines that no decoder knows but that somebody wants to see: ``run`` hands every line with a
    needle that nobody knew to ``unknown_to``.
    """

    def __init__(
        self,
        decoders: Iterable[Callable[[], Decoder]] = DECODERS,
        also: Iterable[str] = (),
        unknown_to: Callable[[Line], None] | None = None,
    ) -> None:
        self._decoders = [new() for new in decoders]
        self._sieve = Sieve([*(needle for one in self._decoders for needle in one.needles), *also])
        self._unknown_to = unknown_to
        self._remembered: dict[bytes | str, tuple[Mould, ...]] = {}
        self._idle = True
        self._waiting_s: float | None = None
        self._fed = self._fed_unknown = self._known = 0

    @property
    def lines(self) -> int:
        return self._fed + self._sieve.lines

    @property
    def unknown(self) -> int:
        return self._fed_unknown + self._sieve.lines - self._known

    @property
    def recognised(self) -> bool:
        """What was run had at least one line as kernel logs have them."""
        return self._known > 0 or self._sieve.recognised

    def feed(self, line: Line) -> list[Event] | None:
        """The events that ``line`` completes, or None for a line that no decoder knows."""
        events = self._feed(line)
        self._fed += 1
        self._fed_unknown += events is None
        return events

    def finish(self) -> list[Event]:
        """The events still waiting for a further line: call it at the end, or after a silence."""
        self._idle = True
        return [event for decoder in self._decoders for event in decoder.finish()]

    def run(self, stream: Iterable[bytes]) -> Iterator[Event]:
        """The events of ``stream`` as they complete (see ``dmaproof.evidence.lines.lines`` for what it may be), and
        one for each gap in the sequence of /dev/kmsg records."""
        for found in self._sieve.run(stream):
            if isinstance(found, list):
                yield from self._raw(found)
            elif isinstance(found, Line):
                yield from self._record(found)
            else:
                yield found
        yield from self.finish()

    def _raw(self, found: Iterable[bytes]) -> Iterator[Event]:
        """The events of raw lines. While nothing waits, one text means one thing: a storm is decoded once."""
        remembered, prefix = self._remembered, _PREFIX.match
        for raw in found:
            match = prefix(raw)
            if match is not None and self._idle:
                moulds = remembered.get(raw[match.end() :])
                if moulds is not None:
                    self._known += 1
                    time = None if match[1] is None else float(match[1])
                    for values in moulds:
                        yield cast(values, time)
                    continue
            key = None if match is None else raw[match.end() :]
            stamp = None if match is None or match[1] is None else float(match[1])
            yield from self._anew(parse(text_of(raw)), key, stamp)

    def _record(self, line: Line) -> Iterator[Event]:
        moulds = self._remembered.get(line.text) if self._idle else None
        if moulds is None:
            yield from self._anew(line, line.text, line.time)
            return
        self._known += 1
        for values in moulds:
            yield cast(values, line.time)

    def _anew(self, line: Line, key: bytes | str | None, time: float | None) -> Sequence[Event]:
        """The events of ``line``, remembered under ``key`` if they follow from nothing else, at ``time``."""
        idle, known = self._idle, self._known
        events = self._lines(unfold(line))
        alone = idle and self._idle and self._known > known
        if key is not None and alone and all(event.time == time for event in events):
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = tuple(mould(event) for event in events)
        return events

    def _lines(self, found: Iterable[Line]) -> list[Event]:
        """The events of what one line of the log holds, which counts as known if any of it is."""
        events: list[Event] = []
        known = False
        for line in found:
            answer = self._feed(line)
            if answer is not None:
                known = True
                events += answer
            elif self._unknown_to is not None:
                self._unknown_to(line)
        self._known += known
        return events

    def _feed(self, line: Line) -> list[Event] | None:
        pieces = messages(line.text)
        if len(pieces) == 1:
            return self._message(line)
        answers = [self._message(_piece(line, text, first=not at)) for at, text in enumerate(pieces)]
        known = [answer for answer in answers if answer is not None]
        return [event for answer in known for event in answer] if known else None

    def _message(self, line: Line) -> list[Event] | None:
        for decoder in self._decoders:
            events = decoder.feed(line)
            if events is not None:
                late = self._late(decoder, line)
                self._idle = all(one.idle for one in self._decoders)
                return [*late, *events]
        return None

    def _late(self, asked: Decoder, line: Line) -> list[Event]:
        """What others than ``asked`` have waited for so long before ``line`` that it does not come any more: the lines
        of a report are printed at once."""
        if self._idle or line.time is None:
            self._waiting_s = line.time
            return []
        since, self._waiting_s = self._waiting_s, line.time
        if since is None or line.time - since <= _LONGEST_WAIT_S:
            return []
        return [event for one in self._decoders if one is not asked for event in one.finish()]


def _piece(line: Line, text: str, first: bool) -> Line:
    """``text`` out of ``line``, with its own stamp where it has one."""
    rest, time = (text, None) if first else peel(text)
    return dataclasses.replace(line, text=rest.rstrip(), time=line.time if time is None else time)


def decode(stream: Iterable[bytes]) -> Iterator[Event]:
    """The events in ``stream``: any bytes, in pieces cut anywhere. Memory stays bounded; nothing in it is an error.

    To have the counts as well without holding the events, run a LogDecoder.
    """
    return LogDecoder().run(stream)


def decode_whole(stream: Iterable[bytes]) -> Decoded:
    """All events of ``stream`` at once, with the counts of lines and of unknown lines."""
    decoder = LogDecoder()
    return Decoded(tuple(decoder.run(stream)), decoder.lines, decoder.unknown)


_ORDER = (
    "kind", "family", "time", "bdf", "address", "access", "reason", "event", "stage", "pasid", "xid", "pid", "process",
    "gpu_instance", "compute_instance", "channel", "engine", "va", "fault_type", "access_type", "caused_by", "count",
    "overflow", "severity", "duration_s", "driver", "function", "text",
)  # fmt: skip


def event_json(event: Event) -> dict[str, Any]:
    """``event`` as an object of ``dmaproof decode --json``: every field of the contract, None where unknown."""
    return {name: getattr(event, name) for name in _ORDER}
