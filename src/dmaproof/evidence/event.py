"""A decoded kernel event: the fields of ``dmaproof decode --json``, a public contract."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

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
    "kernel-crash",
    "bar",
    "link",
]
Family = Literal["vtd", "amdvi", "smmuv3", "smmuv2", "virtio-iommu", "nvidia", "pcie"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event, whatever the number of lines it took. Addresses are integers, BDFs ``dddd:bb:dd.f``.

    ``time`` is the line's own time stamp in seconds (kernel clock), or None. ``text`` is what was decoded. ``severity``
    is that of AER (correctable, nonfatal, fatal) and NVLink events; ``event`` names the error as its source spells it
    (``F_TRANSLATION``, ``ACSViol,UnsupReq``), or as its decoder's module says; ``reason`` is the number that the source
    gives: a fault reason, status register, errno, or the BAR of a ``bar`` event. ``address`` of a ``xid`` is one inside
    the GPU's own memory. ``duration_s`` is how long a hung task had been blocked, or an answer been waited for;
    ``driver`` is a driver that the line names beside or in place of a device, or the module a kernel died in, or that
    called what it died in; ``function`` is the place, as ``uvm_va_block_find+0x12/0x80 [nvidia_uvm]``.
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
    function: str | None = None


_NAMES = tuple(field.name for field in fields(Event) if field.name != "time")

Mould = dict[str, Any]
"""What an event says, but its time."""


def mould(event: Event) -> Mould:
    said = ((name, getattr(event, name)) for name in _NAMES)
    return {name: value for name, value in said if value is not None}


def cast(values: Mould, time: float | None) -> Event:
    """The event of a ``mould`` at ``time``; many times faster than making one, for a storm that says one thing only.
    Fields that it does not hold are the class's defaults: this is why an Event has no slots."""
    new = object.__new__(Event)
    vars(new).update(values, time=time)
    return new
