"""Downstream Port Containment: dpc_process_error of drivers/pci/pcie/dpc.c.

The status register tells the trigger in every era; the second line of older kernels (``.. detected``) and the details
of root port PIO errors only spell it out. The port is the one that contained the error: what is lost is below it.
"""

from __future__ import annotations

import re
from typing import Literal

from dmaproof import bdf
from dmaproof.evidence.decoder import BDF, Form, FormsDecoder
from dmaproof.evidence.event import Event
from dmaproof.evidence.lines import Line

_EVENT = re.compile(
    rf"(?:(?P<bdf>{BDF})(?::pcie?\d+)?: )?DPC:? containment event, status:(?P<status>0x[0-9a-f]{{1,8}})"
)

_TRIGGERS = ("unmasked uncorrectable error", "ERR_NONFATAL", "ERR_FATAL")
_EXTENDED = ("RP PIO error", "software trigger")
_SEVERITY: dict[str, Literal["nonfatal", "fatal"]] = {"ERR_NONFATAL": "nonfatal", "ERR_FATAL": "fatal"}


def trigger(status: int) -> str:
    """The DPC Trigger Reason of ``status``, in the kernel's words (PCIe base specification, DPC Status Register)."""
    reason, extension = status >> 1 & 3, status >> 5 & 3
    if reason < len(_TRIGGERS):
        return _TRIGGERS[reason]
    return _EXTENDED[extension] if extension < len(_EXTENDED) else "reserved error"


def _event(match: re.Match[str], line: Line) -> Event:
    status = int(match["status"], 16)
    name = trigger(status)
    return Event(
        kind="dpc",
        family="pcie",
        text=line.text,
        time=line.time,
        bdf=None if match["bdf"] is None else bdf.parse(match["bdf"]),
        reason=status,
        event=name,
        severity=_SEVERITY.get(name),
    )


FORMS = (Form("containment event", _EVENT, _event),)


class DpcDecoder(FormsDecoder):
    """Decodes containment events; every one stands alone."""

    def __init__(self) -> None:
        super().__init__(FORMS, ("containment event",))
