"""Lines of a trace_pipe that tell of faults (Documentation/trace/ftrace.rst).

``io_page_fault``: include/trace/events/iommu.h. ``aer_event``: include/ras/ras_event.h. ``nvidia_dev_xid``:
kernel-open/nvidia/nv-tracepoint.h, the words of the driver's own log line.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Literal

from dmaproof import bdf
from dmaproof.errors import UsageError
from dmaproof.evidence.decode import LogDecoder
from dmaproof.evidence.event import Event
from dmaproof.evidence.lines import Line

# "   <...>-1234    [001] d.h1.  1234.567890: io_page_fault: ..": the task's name may hold blanks.
_ENTRY = re.compile(
    r"^.{0,64}?\[\d{3,5}\]\s+(?:\S{4,6}\s+)?(?P<time>\d{1,12}\.\d{1,9}): (?P<name>[a-z_]+): (?P<text>.*)$"
)
_PAGE_FAULT = re.compile(
    r"^IOMMU:(?P<driver>\S+) (?P<device>\S+) iova=(?P<iova>0x[0-9a-f]{1,16}) flags=(?P<flags>0x[0-9a-f]{1,8})$"
)
_AER = re.compile(
    r"^(?P<device>\S+) PCIe Bus Error: severity=(?P<severity>[A-Z][a-z]+(?:, non-fatal)?), (?P<errors>.*?)"
    r"(?:, TLP Header=.*)?$"
)
_Severity = Literal["correctable", "nonfatal", "fatal"]
_SEVERITIES: dict[str, _Severity] = {
    "Corrected": "correctable",
    "Uncorrected, non-fatal": "nonfatal",
    "Fatal": "fatal",
}
_SHORT = {  # as the log and sysfs spell them today; ras_event.h has the long names, with or without " Error"
    "Receiver": "RxErr", "Bad TLP": "BadTLP", "Bad DLLP": "BadDLLP", "RELAY_NUM Rollover": "Rollover",
    "Replay Timer Timeout": "Timeout", "Advisory Non-Fatal": "NonFatalErr", "Corrected Internal": "CorrIntErr",
    "Header Log Overflow": "HeaderOF", "Data Link Protocol": "DLP", "Surprise Down": "SDES", "Poisoned TLP": "TLP",
    "Flow Control Protocol": "FCP", "Completion Timeout": "CmpltTO", "Completer Abort": "CmpltAbrt",
    "Unexpected Completion": "UnxCmplt", "Receiver Overflow": "RxOF", "Malformed TLP": "MalfTLP", "ECRC": "ECRC",
    "Unsupported Request": "UnsupReq", "ACS Violation": "ACSViol", "Uncorrectable Internal": "UncorrIntErr",
    "MC Blocked TLP": "BlockedTLP", "AtomicOp Egress Blocked": "AtomicOpBlocked",
    "TLP Prefix Blocked": "TLPBlockedErr",
}  # fmt: skip
_WRITE = 0x1  # IOMMU_FAULT_WRITE, include/linux/iommu.h


def parse(line: str) -> tuple[float, Event] | None:
    """The time stamp (seconds) and the event of one line of trace_pipe; None for a line of anything else."""
    entry = _ENTRY.match(line)
    if entry is None:
        return None
    time_s, text = float(entry["time"]), entry["text"].strip()
    event = {"io_page_fault": _page_fault, "aer_event": _aer, "nvidia_dev_xid": _xid}.get(entry["name"], _nothing)(text)
    return None if event is None else (time_s, replace(event, text=f"{entry['name']}: {text}"))


def _nothing(_text: str) -> Event | None:
    return None


def _page_fault(text: str) -> Event | None:
    match = _PAGE_FAULT.match(text)
    if match is None:
        return None
    return Event(
        kind="iommu-fault",
        text=text,
        bdf=_bdf(match["device"]),
        address=int(match["iova"], 16),
        access="write" if int(match["flags"], 16) & _WRITE else "read",
        driver=match["driver"],
    )


def _aer(text: str) -> Event | None:
    match = _AER.match(text)
    severity = _SEVERITIES.get(match["severity"]) if match is not None else None
    if match is None or severity is None:
        return None
    return Event(
        kind="aer",
        family="pcie",
        text=text,
        bdf=_bdf(match["device"]),
        severity=severity,
        event=",".join(_SHORT.get(name.removesuffix(" Error"), name) for name in match["errors"].split("|")) or None,
    )


def _xid(text: str) -> Event | None:
    """The same words as the log's line, whose decoder knows all its forms."""
    events = LogDecoder().feed(Line(text=f"NVRM: {text}", raw=text)) or []
    return next((one for one in events if one.kind == "xid"), None)


def _bdf(text: str) -> str | None:
    try:
        return bdf.parse(text)
    except UsageError:  # a platform device has no address
        return None
