"""The record: the JSONL stream of a run, from which every report is derived.

One JSON object a line, its ``kind`` first. ``schema`` stands in the ``run`` line; a reader of another schema says so
instead of guessing. Lines of one test come together, ``test`` last of all, so that a stream cut short holds whole tests.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

SCHEMA = 1
Outcome = Literal["passed", "failed", "skipped", "error"]


class Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RunLine(Line):
    """First line (``event`` start) and last line (end) of a record. A record without an end line was cut short."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    kind: Literal["run"] = "run"
    event: Literal["start", "end"]
    schema_version: int = Field(default=SCHEMA, alias="schema")
    run: str
    time: str  # ISO 8601, UTC
    rig: str
    rig_kind: str
    dmaproof: str
    command: tuple[str, ...] = ()
    kernel: str = ""
    planted: tuple[str, ...] = ()
    driver: str | None = None
    exit_status: int | None = None
    note: str = ""


class RigLine(Line):
    """The rig as it was read: ``declared`` is the dump of dmaproof.rig.model.Rig."""

    kind: Literal["rig"] = "rig"
    declared: dict[str, Any]


class MeasurementLine(Line):
    """One figure of a test. ``source`` and ``target`` are rig names; ``path`` is ce or sm where it applies."""

    kind: Literal["measurement"] = "measurement"
    test: str
    node: str
    name: str
    unit: str
    median: float
    spread: float
    count: int
    samples: tuple[float, ...]
    method: str
    source: str | None = None
    target: str | None = None
    path: str | None = None
    peer: bool | None = None
    direction: Literal["one", "both"] | None = None


class EvidenceLine(Line):
    """dmaproof.evidence.evidence.Evidence of a test's window; ``test`` is null for what no test's window holds."""

    kind: Literal["evidence"] = "evidence"
    test: str | None
    source: str
    node: str
    time_s: float
    uncertainty_s: float = 0.0
    what: str
    text: str
    event: dict[str, Any] | None = None
    data: dict[str, Any] = {}


class VerdictLine(Line):
    """dmaproof.triage.verdict.Verdict of a failed test. ``evidence`` are the texts it stands on."""

    kind: Literal["verdict"] = "verdict"
    test: str
    signature: str
    confidence: str
    summary: str
    evidence: tuple[str, ...]
    blind_spots: tuple[str, ...]
    remedy: str
    references: tuple[str, ...] = ()


class DeviceLine(Line):
    """What became of a device after a failure: probed and fit, or poisoned and why."""

    kind: Literal["device"] = "device"
    test: str
    bdf: str
    state: Literal["fit", "poisoned"]
    reason: str


class TestLine(Line):
    """The end of one test."""

    __test__ = False
    kind: Literal["test"] = "test"
    id: str
    outcome: Outcome
    duration_s: float
    message: str = ""
    suite: str = ""
    node: str = ""
    endpoints: tuple[str, ...] = ()
    catches: tuple[str, ...] = ()


AnyLine = Annotated[
    RunLine | RigLine | MeasurementLine | EvidenceLine | VerdictLine | DeviceLine | TestLine,
    Field(discriminator="kind"),
]
LINE: TypeAdapter[AnyLine] = TypeAdapter(AnyLine)
