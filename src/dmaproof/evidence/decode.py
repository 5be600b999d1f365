"""From a log to events: every decoder is asked about every line.

A new family is one module and one entry in DECODERS.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from dmaproof.evidence.decoder import Decoder
from dmaproof.evidence.event import Event
from dmaproof.evidence.lines import Line, lines
from dmaproof.evidence.vtd import VtdDecoder
from dmaproof.evidence.xid import XidDecoder

DECODERS: tuple[Callable[[], Decoder], ...] = (VtdDecoder, XidDecoder)
"""One a family, asked in this order; the first that knows a line has it."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a whole log held: its events, its count of lines that are not blank, and how many of them nobody knew."""

    events: tuple[Event, ...]
    lines: int
    unknown: int


class LogDecoder:
    """Decodes one log line by line; ``lines`` and ``unknown`` count what was fed so far."""

    def __init__(self, decoders: Iterable[Callable[[], Decoder]] = DECODERS) -> None:
        self._decoders = [new() for new in decoders]
        self.lines = 0
        self.unknown = 0

    def feed(self, line: Line) -> list[Event] | None:
        """The events that ``line`` completes, or None for a line that no decoder knows."""
        self.lines += 1
        for decoder in self._decoders:
            events = decoder.feed(line)
            if events is not None:
                return list(events)
        self.unknown += 1
        return None

    def finish(self) -> list[Event]:
        """The events still waiting for a further line: call it at the end, or after a silence."""
        return [event for decoder in self._decoders for event in decoder.finish()]

    def run(self, stream: Iterable[bytes]) -> Iterator[Event]:
        """The events of ``stream`` as they complete (see ``dmaproof.evidence.lines.lines`` for what it may be)."""
        for line in lines(stream):
            yield from self.feed(line) or ()
        yield from self.finish()


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
    "overflow", "severity", "duration_s", "driver", "text",
)  # fmt: skip


def event_json(event: Event) -> dict[str, Any]:
    """``event`` as an object of ``dmaproof decode --json``: every field of the contract, None where unknown."""
    values = dataclasses.asdict(event)
    return {name: values[name] for name in _ORDER}
