"""What a harness and the agent of another operating system say to each other: JSON, frame by frame.

Times are CLOCK_MONOTONIC of whoever writes them; ``now_s`` in a frame is when it was sent, so that the other end can
place them on its own clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from dmaproof.node.ladder import HangReport
from dmaproof.node.messages import Call, Note, Raised, Returned


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Run ``call`` in worker ``worker`` of ``session`` within ``deadline_s``, holding ``devices`` for ``run``."""

    session: str
    worker: int
    call: Call
    deadline_s: float
    devices: tuple[str, ...]
    run: str
    kind: Literal["work"] = "work"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """End worker ``worker``'s process."""

    session: str
    worker: int
    kind: Literal["stop"] = "stop"


@dataclass(frozen=True, slots=True)
class Hung:
    report: HangReport
    kind: Literal["hung"] = "hung"


@dataclass(frozen=True, slots=True)
class Refused:
    """The work could not be done: ``error`` is the class in dmaproof.errors."""

    error: str
    message: str
    kind: Literal["refused"] = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of call ``number``; ``pid`` and ``acquired_s`` as dmaproof.node.worker.Worker has them."""

    session: str
    worker: int
    number: int
    answer: Annotated[Returned | Raised | Hung | Refused, Field(discriminator="kind")]
    notes: tuple[Note, ...]
    output: str
    pid: int | None
    acquired_s: float | None
    now_s: float
    kind: Literal["done"] = "done"


ASKED: TypeAdapter[Work | Stop] = TypeAdapter(Annotated[Work | Stop, Field(discriminator="kind")])
