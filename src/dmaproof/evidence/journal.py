"""``journalctl -o json``: one object a line (systemd, docs/JOURNAL_EXPORT_FORMATS.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dmaproof.evidence.line import Line

_DATA = {"_KERNEL_SUBSYSTEM": "SUBSYSTEM", "_KERNEL_DEVICE": "DEVICE"}  # as /dev/kmsg calls them
# The kernel's own stamp; that of its arrival at journald, on the same clock, where a message is not the kernel's.
_TIMES = ("_SOURCE_MONOTONIC_TIMESTAMP", "__MONOTONIC_TIMESTAMP")
MARKS = ('"MESSAGE":[', '"MESSAGE" : [')
"""How a message begins that is not text: journald then gives its bytes as numbers."""


def entry(raw: str) -> Line | None:
    """The Line that ``raw`` holds, or None where it is no journal entry. ``text`` may have line breaks and prefixes.

    Wall-clock stamps are not the kernel's clock and are left alone.
    """
    if not raw.startswith("{"):
        return None
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    message = _message(fields.get("MESSAGE"))
    if message is None:
        return None
    data = {ours: str(fields[theirs]) for theirs, ours in _DATA.items() if theirs in fields}
    return Line(text=message, raw=raw, time=_time(fields), priority=_number(fields.get("PRIORITY")), data=data)


def _message(value: Any) -> str | None:
    """Text; a list of numbers are its bytes; a list of anything else is a field that came several times."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return None
    if value and all(isinstance(one, int) and 0 <= one <= 0xFF for one in value):
        return bytes(value).decode("utf-8", "replace")
    texts = [text for text in (_message(one) for one in value if isinstance(one, (str, list))) if text is not None]
    return "\n".join(texts) if texts else None


def _time(fields: Mapping[str, Any]) -> float | None:
    stamp = next((number for name in _TIMES if (number := _number(fields.get(name))) is not None), None)
    return None if stamp is None else stamp / 1e6


def _number(value: Any) -> int | None:
    text = str(value)
    return int(text) if len(text) <= 20 and text.isascii() and text.isdigit() else None
