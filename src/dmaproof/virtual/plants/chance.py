"""What a plant leaves to chance: which GPU, which pair, when. A seed makes it the same every time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Chance:
    """Without a seed, every choice is the usual one: what a person who plants by hand expects to see."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = None if seed is None else random.Random(seed)  # noqa: S311 - it decides where, not who may

    def pick(self, choices: Sequence[T], usual: T) -> T:
        """One of ``choices``."""
        return usual if self._random is None else self._random.choice(choices)
