"""What a decoder of one family of kernel lines is, and the table of forms that most of them are made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from dmaproof.evidence.event import Event
from dmaproof.evidence.lines import Line

BDF = r"(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[01][0-9a-f]\.[0-7]"
"""A PCI function as the kernel prints it; with re.IGNORECASE also as older drivers do."""


class Decoder(Protocol):
    """One family's decoder; it holds what a message that takes several lines needs, so each log gets a fresh one."""

    @property
    def needles(self) -> Sequence[str]:
        """Plain text, at least one of which is in every line that this decoder could know. It is searched for in raw
        bytes: no letter that JSON would escape, and nothing across the colon where dmesg changes its colour."""

    @property
    def idle(self) -> bool:
        """Nothing waits for a further line: what ``feed`` says next follows from the line alone."""

    def feed(self, line: Line) -> Sequence[Event] | None:
        """The events that ``line`` completes; empty for a line that belongs to the family but completes none; None
        for a line of somebody else's, which must leave everything as it was."""

    def finish(self) -> Sequence[Event]:
        """The events that were still waiting for a line, at the end of the log or after a silence."""


@dataclass(frozen=True, slots=True)
class Form:
    """One form of a line: ``needle`` is plain text that every line of the form holds (a search for it is all that a
    line of another form costs), ``pattern`` is searched for in the message, ``event`` makes the event of a match, or
    None where the line only adds to one."""

    needle: str
    pattern: re.Pattern[str]
    event: Callable[[re.Match[str], Line], Event | None]


def first_match(forms: Sequence[Form], line: Line) -> tuple[Form, re.Match[str]] | None:
    """The first of ``forms`` that ``line`` has, with its match."""
    text = line.text
    for form in forms:
        if form.needle in text and (match := form.pattern.search(text)):
            return form, match
    return None


def needles_of(forms: Sequence[Form]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(form.needle for form in forms))


class FormsDecoder:
    """A decoder for a family whose every message is one line."""

    idle = True

    def __init__(self, forms: Sequence[Form], needles: Sequence[str] = ()) -> None:
        """``needles`` where fewer than those of ``forms`` do: a log is searched for every one of them."""
        self._forms = forms
        self.needles = needles or needles_of(forms)

    def feed(self, line: Line) -> Sequence[Event] | None:
        found = first_match(self._forms, line)
        if found is None:
            return None
        form, match = found
        event = form.event(match, line)
        return () if event is None else (event,)

    def finish(self) -> Sequence[Event]:
        return ()


def hexadecimal(text: str | None) -> int | None:
    """``text`` (with or without ``0x``) as a number, or None where it is not there."""
    return None if text is None else int(text, 16)


def context(_match: re.Match[str], _line: Line) -> None:
    """The ``event`` of a form that only adds to an event."""
