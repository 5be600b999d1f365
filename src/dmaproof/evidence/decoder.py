"""What a decoder of one family of kernel lines is, and the table of forms that most of them are made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from dmaproof.evidence.event import Event
from dmaproof.evidence.lines import Line


class Decoder(Protocol):
    """One family's decoder; it holds what a message that takes several lines needs, so each log gets a fresh one."""

    def feed(self, line: Line) -> Sequence[Event] | None:
        """The events that ``line`` completes; empty for a line that belongs to the family but completes none; None
        for a line of somebody else's."""

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
    for form in forms:
        if form.needle in line.text and (match := form.pattern.search(line.text)):
            return form, match
    return None


class FormsDecoder:
    """A decoder for a family whose every message is one line."""

    def __init__(self, forms: Sequence[Form]) -> None:
        self._forms = forms

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
