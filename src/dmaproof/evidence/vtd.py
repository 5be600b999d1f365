"""Intel VT-d: dmar_fault, dmar_fault_do_one and qi_dump_fault of drivers/iommu/intel/dmar.c, dmar_fault_dump_ptes of
drivers/iommu/intel/iommu.c (drivers/iommu/dmar.c before 5.9).

Five eras of one fault line: plain (to 5.4), ``PASID ffffffff`` for none (5.5), ``NO_PASID`` and ``0x`` throughout
(5.14), the device without ``0x`` again (5.15), with its domain (7.2). Before 4.7 the reason stood on its own line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from dmaproof import bdf
from dmaproof.evidence.decoder import Form, context, first_match, hexadecimal
from dmaproof.evidence.event import Event
from dmaproof.evidence.lines import Line

_NO_PASID = 0xFFFFFFFF
_HEX = r"(?:0x)?[0-9a-f]{1,16}"
# 5.14 alone wrote [0x04:0x00.0]; the segment came back with 7.2.
_DEVICE = (
    r"(?:Request device )?\[(?:(?P<domain>(?:0x)?[0-9a-f]{4,8}):)?(?P<bus>(?:0x)?[0-9a-f]{2}):"
    r"(?P<device>(?:0x)?[01][0-9a-f])\.(?P<function>[0-7])\]"
)
_REASON = r"\[fault reason (?P<reason>0x[0-9a-f]{1,4}|\d{1,3})\]"

# Serial consoles mix messages: what is left of a line whose beginning went elsewhere still names device and address.
_FAULT = re.compile(
    rf"(?:\[DMA (?P<access>Read|Write)(?: (?:NO_PASID|PASID (?P<pasid>{_HEX})))?\] )?{_DEVICE}"
    rf"(?: PASID (?P<old_pasid>{_HEX}))? fault addr (?P<address>{_HEX})(?:\s+{_REASON})?"
)
_INTERRUPT = re.compile(rf"DMAR: ?\[INTR-REMAP\] {_DEVICE} fault index {_HEX}(?:\s+{_REASON})?")
_STATUS = re.compile(r"DRHD: handling fault status reg (?P<status>(?:0x)?[0-9a-f]{1,8})\b")
_QUEUE = re.compile(
    rf"DMAR: VT-d detected Invalidation (?P<what>Queue|Time-out|Completion) Error: (?:SID|Reason) (?P<value>{_HEX})"
)
_DUMP = re.compile(r"^DMAR: (?:Dump \S+ table entries for IOVA|pte level: \d|(?:root|context|pasid \w+) entry: )")
_REASON_LINE = re.compile(rf"^DMAR: ?{_REASON}")

_PAGE_NBYTES = 0x1000
_OVERFLOW = 1 << 0  # DMA_FSTS_PFO: records were lost


def _bdf(match: re.Match[str]) -> str:
    domain, bus, device = (int(match[name] or "0", 16) for name in ("domain", "bus", "device"))
    return f"{domain:04x}:{bus:02x}:{device:02x}.{match['function']}"


def _reason(text: str | None) -> int | None:
    """Decimal before 5.14 (``%02d``), hexadecimal with ``0x`` since."""
    return None if text is None else int(text, 16 if text.startswith("0x") else 10)


def _fault(match: re.Match[str], line: Line) -> Event:
    access: dict[str | None, Literal["read", "write"]] = {"Read": "read", "Write": "write"}
    address, reason = int(match["address"], 16), _reason(match["reason"])
    pasid = hexadecimal(match["pasid"] or match["old_pasid"])
    return Event(
        kind="iommu-fault",
        family="vtd",
        text=line.text,
        time=line.time,
        bdf=_bdf(match),
        # The hardware gives a page: without the reason after it, what is no page may have lost its end.
        address=address if reason is not None or (address and address % _PAGE_NBYTES == 0) else None,
        access=access.get(match["access"]),
        reason=reason,
        pasid=None if pasid == _NO_PASID else pasid,
    )


def _interrupt(match: re.Match[str], line: Line) -> Event:
    """An interrupt request that was blocked: what it names is an index into the remapping table, not an address."""
    return Event(
        kind="iommu-fault",
        family="vtd",
        text=line.text,
        time=line.time,
        bdf=_bdf(match),
        reason=_reason(match["reason"]),
        event="INTR-REMAP",
    )


def _status(match: re.Match[str], line: Line) -> Event:
    overflow = bool(int(match["status"], 16) & _OVERFLOW)
    return Event(kind="fault-status", family="vtd", text=line.text, time=line.time, overflow=overflow)


def _queue(match: re.Match[str], line: Line) -> Event:
    """The invalidation queue failed; a time-out (SID: its RID) is a device that did not answer an ATS invalidation."""
    name = {"Queue": "IQE", "Time-out": "ITE", "Completion": "ICE"}[match["what"]]
    value = int(match["value"], 16)
    return Event(
        kind="iommu-fault",
        family="vtd",
        text=line.text,
        time=line.time,
        event=name,
        bdf=None if name == "IQE" else bdf.from_requester_id(value & 0xFFFF),
        reason=value if name == "IQE" else None,
    )


FORMS = (
    Form("fault addr", _FAULT, _fault),
    Form("[INTR-REMAP]", _INTERRUPT, _interrupt),
    Form("DRHD:", _STATUS, _status),
    Form("VT-d detected", _QUEUE, _queue),
    Form("DMAR: ", _DUMP, context),
)


class VtdDecoder:
    """Decodes VT-d lines; a fault without a reason waits for it until the next line of the family."""

    def __init__(self) -> None:
        self.needles = ("DMAR", "handling fault status reg", "fault addr")
        self._waiting: Event | None = None

    @property
    def idle(self) -> bool:
        return self._waiting is None

    def feed(self, line: Line) -> Sequence[Event] | None:
        found = first_match(FORMS, line)
        if found is None:
            return self._not_a_form(line)
        form, match = found
        event = form.event(match, line)
        done = self.finish()
        if event is not None and event.kind == "iommu-fault" and "reason" in match.groupdict() and event.reason is None:
            self._waiting = event
            return done
        return done if event is None else (*done, event)

    def _not_a_form(self, line: Line) -> Sequence[Event] | None:
        if self._waiting is None:
            return None
        match = _REASON_LINE.match(line.text)
        if match is None:
            return None
        text = f"{self._waiting.text}\n{line.text}"
        self._waiting = replace(self._waiting, reason=_reason(match["reason"]), text=text)
        return self.finish()

    def finish(self) -> Sequence[Event]:
        waiting, self._waiting = self._waiting, None
        return () if waiting is None else (waiting,)
