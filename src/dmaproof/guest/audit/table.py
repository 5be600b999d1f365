"""One table of mappings: disjoint ranges of guest-physical addresses, each with what is known of it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Range:
    """``first`` to ``last``, both included: QEMU prints them so, and the last page of 64 bits has no end."""

    first: int
    last: int

    @property
    def nbytes(self) -> int:
        return self.last - self.first + 1

    def overlap(self, other: Range) -> Range | None:
        first, last = max(self.first, other.first), min(self.last, other.last)
        return Range(first, last) if first <= last else None

    def holds(self, other: Range) -> bool:
        return self.first <= other.first and other.last <= self.last

    def __str__(self) -> str:
        return f"{self.first:#x}-{self.last:#x}"


def less(whole: Range, parts: Iterable[Range]) -> tuple[Range, ...]:
    """What is left of ``whole`` without ``parts``, in order."""
    left, at = [], whole.first
    for part in sorted(parts, key=lambda one: one.first):
        if part.last < at:
            continue
        if part.first > whole.last:
            break
        if part.first > at:
            left.append(Range(at, part.first - 1))
        at = part.last + 1
    if at <= whole.last:
        left.append(Range(at, whole.last))
    return tuple(left)


def joined(parts: Iterable[Range]) -> tuple[Range, ...]:
    """``parts`` in order, those that overlap or touch as one."""
    found: list[Range] = []
    for part in sorted(parts, key=lambda one: one.first):
        if found and part.first <= found[-1].last + 1:
            found[-1] = Range(found[-1].first, max(found[-1].last, part.last))
        else:
            found.append(part)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Entry:
    """A mapping. ``origin`` is what it maps, where the trace says it: an address in QEMU, or a file's descriptor."""

    range: Range
    readonly: bool | None = None
    origin: str | None = None
    code: int | None = None
    """Of a map that failed: what QEMU says it returned."""


class Table:
    """Entries that do not overlap; a later one takes the place of what it covers."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._entries: list[Entry] = []

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry) -> None:
        self.remove(entry.range)
        at = bisect_left(self._firsts, entry.range.first)
        self._firsts.insert(at, entry.range.first)
        self._entries.insert(at, entry)

    def remove(self, gone: Range) -> None:
        """Nothing of ``gone`` is left; entries that reach beyond it are cut."""
        first, last = self._span(gone)
        kept = [
            replace(entry, range=part) for entry in self._entries[first:last] for part in less(entry.range, (gone,))
        ]
        self._entries[first:last] = kept
        self._firsts[first:last] = [entry.range.first for entry in kept]

    def within(self, wanted: Range) -> tuple[Entry, ...]:
        """The entries that overlap ``wanted``, whole, in order."""
        first, last = self._span(wanted)
        return tuple(self._entries[first:last])

    def gaps(self, wanted: Range) -> tuple[Range, ...]:
        """The parts of ``wanted`` that no entry holds."""
        return less(wanted, (entry.range for entry in self.within(wanted)))

    def _span(self, wanted: Range) -> tuple[int, int]:
        first = bisect_right(self._firsts, wanted.first)
        if first and self._entries[first - 1].range.last >= wanted.first:
            first -= 1
        return first, max(first, bisect_right(self._firsts, wanted.last))
