"""What a workload says while it works, so that a hang still leaves word of how far it came.

A note leaves the process at once: after a deadline nobody can ask any more. In a worker the sink is the
channel to the node; outside of one, notes go nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Sink = Callable[[str, Mapping[str, Any]], None]


def _nowhere(_name: str, _data: Mapping[str, Any]) -> None:
    return


_sink: Sink = _nowhere


def note(name: str, **data: Any) -> None:
    """Say ``name`` with JSON-able ``data``, such as ``note("allocation", va=.., nbytes=.., memory="managed")``."""
    _sink(name, data)


def send_notes_to(sink: Sink) -> None:
    """Install the receiver of all later notes of this process."""
    global _sink  # noqa: PLW0603 - one process, one channel
    _sink = sink
