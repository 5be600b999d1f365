"""How what takes its time says how far it came."""

from __future__ import annotations

from collections.abc import Callable

Tell = Callable[[str, str, float | None], None]
"""Called with what is being done, how far it came in words, and as a fraction of 1 where that is known."""


def quietly(_what: str, _how_far: str, _fraction: float | None) -> None:
    return
