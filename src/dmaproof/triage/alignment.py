"""The clocks of several logs, made one: kernels count from their own boot, so a guest's seconds are not its host's.

An offset is what must be added to a log's times to have them on the first log's clock. It is given, or found: by lines
that show the wall clock beside the kernel's, or by events that both logs tell in the same words. Else there is none,
and that is said.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from dmaproof.evidence.event import Event

By = Literal["first", "given", "wall-clock", "events", "none"]
_SAMPLES = 64
_CHUNKS = 256  # a log that shows both clocks does so from its start
# The same line with both clocks: `Nov 21 10:05:01 host kernel: [  123.456789] ..`, or in ISO 8601.
_BOTH = re.compile(
    rb"^(?:(?P<iso>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,6})?(?:Z|[+-]\d\d:?\d\d)?)"
    rb"|(?P<syslog>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d))\b.{0,120}?\[\s*(?P<time>\d{1,10}\.\d{3,9})\]",
    re.MULTILINE,
)
_WALL_S, _EVENT_S = 1.0, 0.5
_ANY_YEAR = 2000


@dataclass(frozen=True, slots=True)
class Offset:
    """Seconds to add, and how far that may be off; ``seconds`` is None where the logs could not be aligned."""

    by: By
    seconds: float | None = 0.0
    uncertainty_s: float = 0.0


UNALIGNED = Offset("first")
"""Of a log whose own clock is the one that is shown."""


@dataclass(slots=True)
class WallClock:
    """Watches a log's bytes on their way to the decoder for lines that show both clocks."""

    samples: list[float] = field(default_factory=list)

    def watch(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """``chunks`` unchanged. A line cut by their ends is one sample less, no more."""
        for number, chunk in enumerate(chunks):
            if len(self.samples) < _SAMPLES and number < _CHUNKS:
                self._look(chunk)
            yield chunk

    def _look(self, chunk: bytes) -> None:
        for match in _BOTH.finditer(chunk):
            wall = _seconds(match["iso"], match["syslog"])
            if wall is not None:
                self.samples.append(wall - float(match["time"]))
            if len(self.samples) >= _SAMPLES:
                return

    @property
    def boot(self) -> float | None:
        """When this kernel's clock began, on the wall clock: whole seconds are cut off, and lines are written late."""
        return statistics.median(self.samples) if self.samples else None


def _seconds(iso: bytes | None, syslog: bytes | None) -> float | None:
    """Syslog names no year and no zone: such times compare with each other only, within a year."""
    try:
        if iso is not None:
            when = datetime.fromisoformat(iso.decode().replace(",", "."))
        else:
            when = datetime.strptime(f"{_ANY_YEAR} {(syslog or b'').decode()}", "%Y %b %d %H:%M:%S")
    except ValueError:
        return None
    return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()


@dataclass(frozen=True, slots=True)
class Clock:
    """What aligning needs of one log."""

    name: str
    boot: float | None
    events: Sequence[Event]


def align(clocks: Sequence[Clock], given: dict[str, float]) -> tuple[Offset, ...]:
    """The offset of each log to the first. ``given`` are offsets by name; the first log may have one too."""
    if not clocks:
        return ()
    first = Offset("given", given[clocks[0].name]) if clocks[0].name in given else Offset("first")
    base = first.seconds or 0.0
    return (first, *(_offset(clocks[0], one, given, base) for one in clocks[1:]))


def _offset(first: Clock, one: Clock, given: dict[str, float], base: float) -> Offset:
    if one.name in given:
        return Offset("given", given[one.name])
    shared = _shared(first.events, one.events)
    if shared:
        middle = statistics.median(shared)
        return Offset("events", base + middle, max(_EVENT_S, *(abs(each - middle) for each in shared)))
    if first.boot is not None and one.boot is not None:
        return Offset("wall-clock", base + one.boot - first.boot, _WALL_S)
    return Offset("none", None)


def _shared(first: Sequence[Event], other: Sequence[Event]) -> list[float]:
    """How much later the first log has each event that both tell once, in the same words, with a time."""
    here, there = _once(first), _once(other)
    return [here[text] - there[text] for text in here if text in there]


def _once(events: Sequence[Event]) -> dict[str, float]:
    times = Counter(event.text for event in events)
    return {event.text: event.time for event in events if event.time is not None and times[event.text] == 1}
