"""Text that came from anywhere, made fit to be read.

Kernel lines, process names and worker output hold any bytes at all. Escape sequences would act on a terminal, and
bidirectional controls would reorder what a person reads, so both are shown as what they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

# C0 and C1 controls but for newline and tab; the bidirectional controls of Unicode's annex 9; lone surrogates (bytes
# that were not UTF-8); U+FFFE and U+FFFF, which XML cannot hold.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def printable(text: str) -> str:
    r"""``text`` with every character that acts instead of showing written out, such as ``\x1b`` and ``\u202e``."""
    return _UNPRINTABLE.sub(lambda match: _escaped(ord(match[0])), text)


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"


def clipped(text: str, length: int) -> str:
    """``text``, or its first ``length`` characters and how many more there were."""
    return text if len(text) <= length else f"{text[:length]} … ({len(text) - length} more characters)"


def counted(number: int, singular: str, plural: str = "") -> str:
    """``1 test``, ``5112 tests``."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


def duration(seconds: float, *, whole: bool = False) -> str:
    """``850 ms``, ``12.3 s``, ``4 min 05 s``, ``2 h 13 min``; ``12 s`` if ``whole``: no finer than it was taken."""
    if whole and seconds < 59.5:
        return f"{seconds:.0f} s" if seconds >= 0.5 else "under 1 s"
    if seconds < 0.0005:
        return "under 1 ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


# Quantities that stand alone. Digits in a name (gpu1) or an address (0000:04:00.0) say which, and are not masked.
_QUANTITY = re.compile(r"(?<![\w:.])(?:0x[0-9a-f]+|\d+(?:\.\d+)?)(?![\w:]|\.\d)")


@dataclass(frozen=True, slots=True)
class Alike:
    """Texts that differ only in quantities: the first of them, how many different ones, how many in all."""

    text: str
    different: int
    times: int

    @property
    def more(self) -> str:
        """`` (and 13 like it)``, `` (14 times)``, or nothing."""
        if self.different > 1:
            return f" (and {self.different - 1} like it)"
        return f" ({self.times} times)" if self.times > 1 else ""


def alike(texts: Iterable[str]) -> list[Alike]:
    """``texts`` with those that differ only in quantities told once, in order of the first."""
    found: dict[str, list[str]] = {}
    for text in texts:
        found.setdefault(_QUANTITY.sub("#", text), []).append(text)
    return [Alike(same[0], len(set(same)), len(same)) for same in found.values()]
