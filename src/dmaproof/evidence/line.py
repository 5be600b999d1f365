"""One line of a log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a log.

    ``text`` is the message without its prefixes, ``raw`` the line as it was found (undecodable bytes replaced, colour
    codes and NULs left out). ``time`` is the kernel's time stamp in seconds, None where the prefix has none.
    ``sequence`` and ``priority`` (facility << 3 | level) are those of a /dev/kmsg record, ``data`` its ``KEY=value``
    continuation lines.
    """

    text: str
    raw: str
    time: float | None = None
    sequence: int | None = None
    priority: int | None = None
    data: Mapping[str, str] = field(default_factory=dict)
