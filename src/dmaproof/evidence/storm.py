"""Storms: a million faults that say one thing become one entry, whatever else the log holds.

Two events are one if they differ only in time and address. Addresses that lie beside each other make one range; a page
where a mailbox could be (dmaproof.pci.addresses: offset 0x139000 of a BAR of 16 MiB) stays an entry of its own, for it
names a cause that its neighbours do not. Memory is bounded for any input: ranges of an event, and different events.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from operator import attrgetter

from dmaproof.evidence.event import Event
from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import Storm

_MOST_RANGES = 16  # of one event, and as many of possible mailboxes
_MOST_EVENTS = 4096  # that differ in anything; beyond, those that differ only in their words are one
_MOST_SOURCES = 1024  # of coarse entries; beyond, only the kind is kept apart
_PAGE_NBYTES = 0x1000
_BAR0_NBYTES = 1 << 24
_MAILBOX_OFFSET = 0x139000
_HEX = frozenset("0123456789abcdefABCDEF")
_FINE = attrgetter(
    "kind", "family", "bdf", "access", "reason", "event", "stage", "pasid", "xid", "pid", "process", "gpu_instance",
    "compute_instance", "channel", "engine", "va", "fault_type", "access_type", "caused_by", "count", "overflow",
    "severity", "duration_s", "driver", "function",
)  # fmt: skip
_COARSE = attrgetter("kind", "family", "bdf", "event", "xid")


@dataclass(frozen=True, slots=True)
class Entry:
    """``event``, the first of its kind, and how often it came, None where once."""

    event: Event
    storm: Storm | None


@dataclass(slots=True)
class _Range:
    count: int
    first_s: float
    last_s: float
    first_address: int | None
    last_address: int | None
    mailbox: bool

    def distance(self, address: int) -> int:
        """Bytes between ``address`` and this range, 0 inside it."""
        if self.first_address is None or self.last_address is None:
            return 0
        return max(self.first_address - address, address - self.last_address, 0)

    def take(self, time_s: float, address: int | None) -> None:
        self.count += 1
        self.first_s, self.last_s = min(self.first_s, time_s), max(self.last_s, time_s)
        if address is not None and self.first_address is not None and self.last_address is not None:
            self.first_address = min(self.first_address, address)
            self.last_address = max(self.last_address, address)

    def storm(self) -> Storm | None:
        if self.count == 1:
            return None
        return Storm(
            count=self.count,
            first_s=self.first_s,
            last_s=self.last_s,
            first_address=self.first_address,
            last_address=self.last_address,
        )


class _Ranges:
    """The ranges of every key, in the order in which they began."""

    def __init__(self) -> None:
        self._fine: dict[Hashable, list[_Range]] = {}
        self._coarse: dict[Hashable, list[_Range]] = {}

    def put(self, where: Hashable, event: Event, time_s: float) -> _Range | None:
        """Counts ``event``; the new range it began, else None."""
        ranges = self._of(where, event)
        found = _fitting(ranges, event.address)
        if found is not None:
            found.take(time_s, event.address)
            if found is not ranges[0]:  # the next one most likely is beside this one
                ranges.remove(found)
                ranges.insert(0, found)
            return None
        new = _Range(1, time_s, time_s, event.address, event.address, is_mailbox(event.address))
        ranges.insert(0, new)
        return new

    def _of(self, where: Hashable, event: Event) -> list[_Range]:
        key = (where, _FINE(event), words(event))
        ranges = self._fine.get(key)
        if ranges is not None:
            return ranges
        if len(self._fine) < _MOST_EVENTS:
            return self._fine.setdefault(key, [])
        coarse = (where, _COARSE(event))
        if coarse not in self._coarse and len(self._coarse) >= _MOST_SOURCES:
            coarse = (None, (event.kind, event.family))
        return self._coarse.setdefault(coarse, [])


def is_mailbox(address: int | None) -> bool:
    """Whether ``address`` lies in the page of a BAR0 where GPUDirect's mailbox is."""
    return address is not None and (address % _BAR0_NBYTES) & -_PAGE_NBYTES == _MAILBOX_OFFSET


def words(event: Event) -> str:
    """``event``'s text with its address left out."""
    text, address = event.text, event.address
    if address is None:
        return text
    digits = f"{address:x}"
    parts, start = [], 0
    at = text.find(digits)
    while at >= 0:
        begin, end = at, at + len(digits)
        if not address:  # its digits are leading zeros themselves: taken at once, or long runs would take for ever
            while text[end : end + 1] == "0":
                end += 1
        while begin > start and text[begin - 1] == "0":
            begin -= 1
        if (begin == start or text[begin - 1] not in _HEX) and text[end : end + 1] not in _HEX:
            parts.append(text[start:begin])
            start = end
        at = text.find(digits, end)
    return "@".join([*parts, text[start:]])


def _fitting(ranges: list[_Range], address: int | None) -> _Range | None:
    """The range that ``address`` belongs to: in or beside it, else the nearest where there are too many. A possible
    mailbox only joins its own page, or where there are too many of them other mailboxes."""
    if address is None:
        return next((one for one in ranges if one.first_address is None), None)
    mailbox = is_mailbox(address)
    alike = [one for one in ranges if one.mailbox is mailbox and one.first_address is not None]
    near = min(alike, key=lambda one: one.distance(address), default=None)
    if near is None or len(alike) >= _MOST_RANGES or near.distance(address) <= (0 if mailbox else _PAGE_NBYTES):
        return near
    if mailbox and near.first_address is not None and near.first_address & -_PAGE_NBYTES == address & -_PAGE_NBYTES:
        return near
    return None


class Gatherer:
    """Takes the events of one log as they come, and holds what is different in them."""

    def __init__(self) -> None:
        self._ranges = _Ranges()
        self._begun: list[tuple[Event, _Range]] = []

    def add(self, event: Event) -> None:
        new = self._ranges.put(None, event, event.time if event.time is not None else 0.0)
        if new is not None:
            self._begun.append((event, new))

    def entries(self) -> tuple[Entry, ...]:
        """What there is so far, in the order in which each first came. Times that a log does not have are 0."""
        return tuple(Entry(event, found.storm()) for event, found in self._begun)


def gather(evidence: Iterable[Evidence]) -> tuple[Evidence, ...]:
    """``evidence`` with each storm of one source and node as one Evidence, the first, whose fact is a Storm. Evidence
    without an event, or with a fact of its own, is left as it is."""
    ranges = _Ranges()
    kept: list[tuple[Evidence, _Range | None]] = []
    for one in evidence:
        if one.event is None or one.fact is not None:
            kept.append((one, None))
            continue
        new = ranges.put((one.source, one.node, one.kind), one.event, one.time_s)
        if new is not None:
            kept.append((one, new))
    return tuple(one if found is None else replace(one, fact=found.storm()) for one, found in kept)
