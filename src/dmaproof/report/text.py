"""Text that came from anywhere, made fit to be read.

Kernel lines, process names and worker output hold any bytes at all. Escape sequences would act on a terminal, and
bidirectional controls would reorder what a person reads, so both are shown as what they are.
"""

from __future__ import annotations

import re

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


def duration(seconds: float) -> str:
    """``850 ms``, ``12.3 s``, ``4 min 05 s``, ``2 h 13 min``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
