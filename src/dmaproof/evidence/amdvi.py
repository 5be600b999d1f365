"""AMD-Vi: iommu_print_event, amd_iommu_report_page_fault and wait_on_sem of drivers/iommu/amd/iommu.c
(drivers/iommu/amd_iommu.c before 5.8).

A page fault of a device that the kernel knows is logged in the device's name, ``<driver> <device>: AMD-Vi: ..``; that
of an unknown one carries ``device=``, with its segment since 6.0. Bits of flags: AMD I/O Virtualization Technology
Specification, event log, IO_PAGE_FAULT.
"""

from __future__ import annotations

import re
from typing import Literal

from dmaproof import bdf
from dmaproof.evidence.decoder import BDF, Form, FormsDecoder
from dmaproof.evidence.event import Event
from dmaproof.evidence.lines import Line

_EVENT = re.compile(
    rf"(?:(?P<driver>[\w.-]{{1,64}}) )?(?:(?P<owner>{BDF}|[\w.-]{{1,64}}): )?(?:AMD-V[Ii]: ?)?"
    r"Event logged \[(?P<event>[A-Z][A-Z0-9_]{2,40})\b(?P<body>[^\n]*)"
)
_FIELD = re.compile(r"\b(?P<name>device|address|flags|pasid|gpa|spa)=(?P<value>[0-9a-fx:.]+)", re.IGNORECASE)
_DEVICE = re.compile(
    r"(?:(?P<segment>[0-9a-f]{4}):)?(?P<bus>[0-9a-f]{2})[:.](?P<rest>[01][0-9a-f]\.[0-7])", re.IGNORECASE
)
_NUMBER = re.compile(r"0x[0-9a-f]{1,16}")
_WAIT = re.compile(r"AMD-V[Ii]: ?Completion-Wait loop timed out")
_OVERFLOW = re.compile(r"AMD-V[Ii]: ?IOMMU (?:event log overflow|Event log restarting)")

_INTERRUPT, _WRITE = 1 << 3, 1 << 5
_NOT_A_DRIVER = ("pci", "AMD-Vi", "AMD-VI")  # "pci 0000:01:00.0:" is a device that no driver has
# QEMU 11.1 logs this one line for any fault of any device.
_NOBODY = ("0000:00:00.0", 0, 0xA)


def _event(match: re.Match[str], line: Line) -> Event:
    fields = {field["name"].lower(): field["value"] for field in _FIELD.finditer(match["body"])}
    device, driver = _device(match, fields.get("device"))
    address = _number(next((fields[name] for name in ("address", "gpa", "spa") if name in fields), None))
    flags = _number(fields.get("flags"))
    if match["event"] == "IO_PAGE_FAULT" and (device, address, flags) == _NOBODY:
        device = address = None
    return Event(
        kind="iommu-fault",
        family="amdvi",
        text=line.text,
        time=line.time,
        bdf=device,
        driver=driver,
        address=address,
        access=_access(match["event"], flags),
        reason=flags,
        event=match["event"],
        pasid=_number(fields.get("pasid")) if "INVALID" in match["event"] else None,
    )


def _device(match: re.Match[str], field: str | None) -> tuple[str | None, str | None]:
    """The BDF, and the driver where the line names one in place of a device or before it."""
    found = _DEVICE.fullmatch(field) if field is not None else None
    if found is not None:
        return bdf.parse(f"{found['segment'] or '0000'}:{found['bus']}:{found['rest']}"), None
    owner, driver = match["owner"], match["driver"]
    if owner is not None and re.fullmatch(BDF, owner, re.IGNORECASE):
        return bdf.parse(owner), None if driver in _NOT_A_DRIVER else driver
    return None, None if owner in _NOT_A_DRIVER else owner


def _number(text: str | None) -> int | None:
    """None too for what was cut by hand (``0x0...``)."""
    return int(text, 16) if text is not None and _NUMBER.fullmatch(text) else None


def _access(event: str, flags: int | None) -> Literal["read", "write"] | None:
    if event != "IO_PAGE_FAULT" or flags is None or flags & _INTERRUPT:
        return None
    return "write" if flags & _WRITE else "read"


def _wait(_match: re.Match[str], line: Line) -> Event:
    """The IOMMU did not finish a command in time; most often a device that does not answer an ATS invalidation."""
    return Event(kind="iommu-fault", family="amdvi", text=line.text, time=line.time, event="COMPLETION_WAIT_TIMEOUT")


def _overflow(_match: re.Match[str], line: Line) -> Event:
    return Event(kind="overflow", family="amdvi", text=line.text, time=line.time, overflow=True)


FORMS = (
    Form("Event logged [", _EVENT, _event),
    Form("Completion-Wait loop", _WAIT, _wait),
    Form("vent log ", _OVERFLOW, _overflow),
)


class AmdViDecoder(FormsDecoder):
    """Decodes AMD-Vi lines; every one stands alone."""

    def __init__(self) -> None:
        super().__init__(FORMS, ("Event logged [", "AMD-V"))
