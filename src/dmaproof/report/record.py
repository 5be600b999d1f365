"""The record: the JSONL stream of a run, from which every report is derived.

One JSON object a line, its ``kind`` first. ``schema`` stands in the ``run`` line; a reader of another schema says so
instead of guessing. Lines of one test come together, ``test`` last of all: a stream cut short holds whole tests.
The text under a field is its meaning in docs/record.md, which is made from here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from dmaproof.triage.expectation.figure import By, Standing, Trained

SCHEMA = 1
Outcome = Literal["passed", "failed", "skipped", "error"]


class Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class RunLine(Line):
    """First line (``event`` start) and last line (end) of a record. A record without an end line was cut short."""

    model_config = ConfigDict(populate_by_name=True)

    kind: Literal["run"] = "run"
    event: Literal["start", "end"]
    """Which end of the run this is."""
    schema_version: int = Field(default=SCHEMA, alias="schema")
    """Version of this format; a reader of another one refuses the record."""
    run: str
    """Name of the run, its own: the name of its folder and the number of the process that kept the record."""
    time: str
    """When, ISO 8601 in UTC with milliseconds, such as ``2026-11-21T09:12:54.123+00:00``."""
    rig: str
    """Id of the rig, such as ``virtual:hgx-h100``."""
    rig_kind: str
    """``host``, ``virtual`` or ``lab``; a run on a virtual rig proves the suite, never a machine."""
    dmaproof: str
    """Version of dmaproof that wrote the record."""
    command: tuple[str, ...] = ()
    """The command line, word by word."""
    kernel: str = ""
    """Release of the kernel that ran."""
    planted: tuple[str, ...] = ()
    """Ids of the defects planted in a virtual rig: failures are then meant to happen."""
    driver: str | None = None
    """Version of the GPU driver, null where there is none."""
    exit_status: int | None = None
    """Exit status of the run, in its end line."""
    note: str = ""
    """Anything else that a reader must know; ``interrupted``: the run was stopped before it had run every test."""


class RigLine(Line):
    """The rig as it was read: ``declared`` is the dump of dmaproof.rig.model.Rig."""

    kind: Literal["rig"] = "rig"
    declared: dict[str, Any]
    """All that the rig claims, as JSON."""


class MeasurementLine(Line):
    """One figure of a test. ``source`` and ``target`` are rig names; ``path`` is ce, sm or tma where it applies."""

    kind: Literal["measurement"] = "measurement"
    test: str
    """Id of the test."""
    node: str
    """Node on which it was measured."""
    name: str
    """What was measured, with its unit: ``bandwidth_GBps``, ``latency_ns``."""
    unit: str
    """``GB/s`` (1e9 bytes/s), ``ns``, ..."""
    median: float
    """Median of the samples."""
    spread: float
    """Largest minus smallest sample."""
    count: int
    """Number of samples."""
    samples: tuple[float, ...]
    """Every sample, in the order taken."""
    method: str
    """How it was measured: call or kernel, size, repetitions, clock."""
    source: str | None = None
    """Where the bytes came from: the name of a GPU, ``host``, or ``all`` peers of the target."""
    target: str | None = None
    """Where the bytes went."""
    path: str | None = None
    """What moved them: ``ce`` (copy engine), ``sm`` (kernel) or ``tma`` (tensor memory accelerator)."""
    peer: bool | None = None
    """Whether peer access was enabled."""
    direction: Literal["one", "both"] | None = None
    """One way, or both ways at once."""
    case: str | None = None
    """nvbandwidth's name for it (``device_to_device_memcpy_write_ce``), where it has one."""
    nbytes: int | None = None
    """Bytes of one copy."""
    memory: str | None = None
    """Kinds of memory at both ends, where they are not pinned host and cuMemAlloc memory: ``registered>device``."""
    trained: dict[str, Trained] = {}
    """PCIe links that it went over, by GPU, as seen right after: ``generation``, ``width``, ``offered_generation``,
    ``offered_width``."""


class JudgementLine(Line):
    """A figure held against what it should be (docs/expectations.md): every one that is not fine, and of figures that
    are alike and all fine the worst."""

    kind: Literal["judgement"] = "judgement"
    test: str
    """Id of the test that measured it."""
    node: str
    """Node on which it was measured."""
    name: str
    """Name of the figure."""
    unit: str
    """Its unit, and that of the values here."""
    value: float
    """The figure: the median of its samples."""
    source: str
    """Where the bytes came from: the name of a GPU, ``host``, or ``all`` peers of the target."""
    target: str
    """Where the bytes went."""
    by: By
    """What it was held against: ``declared`` by the rig, ``physical`` rate of the link, ``baseline``, ``peers``."""
    standing: Standing
    """``fine``, ``low`` (worse than the bound), ``high`` (more than the link carries: a wrong measurement)."""
    certain: bool
    """Whether the run fails on it."""
    against: float
    """What it is compared with: the link's rate, the median of the baseline, the middle of the others."""
    bound: float
    """The last value that is still fine."""
    share: float
    """How good it is beside ``against``: 1 as good, less if worse, whichever way is better."""
    among: int
    """How many figures ``against`` rests on; 0 for a declared or physical rate."""
    topology: str
    """Class of the way: kind of path, and where its ends lie to each other."""
    reason: str = ""
    """``degraded-link``, ``redirected-route``, ``throttling``, ``wrong-numa-node``, ``wrong-measurement``,
    ``unexplained``; empty for a figure that is fine."""
    text: str
    """All of it in one sentence."""
    looked_at: tuple[str, ...] = ()
    """What was looked at for a reason, and how it stood."""


class EvidenceLine(Line):
    """dmaproof.evidence.evidence.Evidence of a test's window; ``test`` is null for what no test's window holds."""

    kind: Literal["evidence"] = "evidence"
    test: str | None
    """Id of the test in whose window it was seen, or null."""
    source: str
    """Which observer saw it, such as ``kmsg``."""
    node: str
    """Node on which it was seen."""
    time_s: float
    """Seconds on the clock of the run (CLOCK_MONOTONIC of the process that kept the record)."""
    uncertainty_s: float = 0.0
    """How far ``time_s`` may be off: clocks of nodes differ."""
    what: str
    """Kind of evidence: ``iommu-fault``, ``xid``, ``hang``, ``blind-spot``, ...

    Of no test (null): ``blind-spot``, what the run could not see, ``rig-note``, what reading the machine told, and
    ``pair-coverage``, which part of a node's ordered pairs the run tests (``data``: ``chosen``, ``whole``, ..).
    """
    text: str
    """The observation itself, for people."""
    event: dict[str, Any] | None = None
    """The decoded event of a kernel line, with the fields of ``dmaproof decode --json``."""
    data: dict[str, Any] = {}
    """Detail that depends on ``what``. A fact has its fields here (dmaproof.evidence.fact): ``counter-step``,
    ``link-state``, ``nvlink-state``, ``gpu-health``, ``addressing``, ``kernel-thread``, ``peer-write``, ``measured``,
    ``route``, ``bar-conflict``, ``stage2-audit``. An event that came often has ``count``, ``first_s``, ``last_s``,
    ``first_address`` and ``last_address``. ``expected`` is true where the test provoked it."""


class VerdictLine(Line):
    """dmaproof.triage.verdict.Verdict of a failed test. ``evidence`` are the texts it stands on."""

    kind: Literal["verdict"] = "verdict"
    test: str
    """Id of the test."""
    signature: str
    """Name of the cause, such as ``iommu-blocks-p2p-mailbox``."""
    confidence: str
    """``certain``, ``probable`` or ``possible``."""
    summary: str
    """What happened, in one sentence that names the devices."""
    evidence: tuple[str, ...]
    """Texts of the evidence that it stands on."""
    blind_spots: tuple[str, ...]
    """What could not be seen."""
    remedy: str
    """What to do next."""
    references: tuple[str, ...] = ()
    """Public reports of the same failure."""


class DeviceLine(Line):
    """What became of a device after a failure: probed and fit, or poisoned and why."""

    kind: Literal["device"] = "device"
    test: str
    """Id of the test that failed."""
    bdf: str
    """PCI address of the device."""
    state: Literal["fit", "poisoned"]
    """Whether later tests may use it."""
    reason: str
    """What the probe said, such as ``a fresh process could use it``."""


class TestLine(Line):
    """The end of one test."""

    __test__ = False
    kind: Literal["test"] = "test"
    id: str
    """Id of the test, the same on every machine."""
    outcome: Outcome
    """``error``: the test could not be run as it should have been."""
    duration_s: float
    """How long it took, seconds."""
    message: str = ""
    """Why it failed or was skipped."""
    suite: str = ""
    """Suite it belongs to, such as ``p2p``."""
    node: str = ""
    """Node it ran on."""
    endpoints: tuple[str, ...] = ()
    """PCI addresses of the devices it used."""
    catches: tuple[str, ...] = ()
    """Words of the field failures that it would catch (``-k``)."""


AnyLine = Annotated[
    RunLine | RigLine | MeasurementLine | EvidenceLine | VerdictLine | DeviceLine | JudgementLine | TestLine,
    Field(discriminator="kind"),
]
LINE: TypeAdapter[AnyLine] = TypeAdapter(AnyLine)
