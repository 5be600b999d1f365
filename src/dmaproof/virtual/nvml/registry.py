"""Which NVML functions are implemented, each under its exported name and with its C argument types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Implementation = Callable[..., None]
IMPLEMENTED: dict[str, tuple[Implementation, tuple[Any, ...]]] = {}
"""By exported name. An implementation returns nothing, and raises NvmlError for any code but success."""


def nvml(*names: str, arguments: tuple[Any, ...] = ()) -> Callable[[Implementation], Implementation]:
    """Registers a function as NVML's ``names``, with ctypes ``arguments``."""

    def register(implementation: Implementation) -> Implementation:
        for name in names:
            IMPLEMENTED[name] = implementation, arguments
        return implementation

    return register
