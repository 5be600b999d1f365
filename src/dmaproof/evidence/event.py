"""A decoded kernel event: the fields of ``dmaproof decode --json``, a public contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "iommu-fault",
    "fault-status",
    "suppressed",
    "overflow",
    "xid",
    "aer",
    "dpc",
    "device-lost",
    "p2pdma",
    "ats-setup",
    "hung-task",
    "bar",
    "link",
]
Family = Literal["vtd", "amdvi", "smmuv3", "smmuv2", "virtio-iommu", "nvidia", "pcie"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event, whatever the number of lines it took. Addresses are integers, BDFs ``dddd:bb:dd.f``.

    ``time`` is the line's own time stamp in seconds (kernel clock), or None. ``text`` is what was decoded. ``severity``
    is that of AER (correctable, nonfatal, fatal) and NVLink events; ``event`` names the error as its source spells it
    (``F_TRANSLATION``, ``ACSViol,UnsupReq``); ``duration_s`` is how long a hung task had been blocked; ``driver`` is a
    driver that the line names in place of a device.
    """

    kind: Kind
    text: str
    family: Family | None = None
    time: float | None = None
    bdf: str | None = None
    address: int | None = None
    access: Literal["read", "write"] | None = None
    reason: int | None = None
    event: str | None = None
    stage: int | None = None
    pasid: int | None = None
    xid: int | None = None
    pid: int | None = None
    process: str | None = None
    gpu_instance: int | None = None
    compute_instance: int | None = None
    channel: int | None = None
    engine: str | None = None
    va: int | None = None
    fault_type: str | None = None
    access_type: str | None = None
    caused_by: int | None = None
    count: int | None = None
    overflow: bool | None = None
    severity: Literal["correctable", "nonfatal", "fatal"] | None = None
    duration_s: float | None = None
    driver: str | None = None
