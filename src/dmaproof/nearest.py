"""The nearest valid word, for messages about misspelt ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, valid: Iterable[str]) -> str:
    """``did you mean 'x'?`` where a valid word is near, else the list of all valid words."""
    words = sorted(valid)
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else "valid: " + ", ".join(words)
