"""NVIDIA Xids: krcReportXid of src/nvidia/src/kernel/gpu/rc/kernel_rc.c, the tracepoint nvidia:nvidia_dev_xid of
kernel-open/nvidia/nv-tracepoint.h, osHandleGpuLost of src/nvidia/arch/nvalloc/unix/src/osinit.c and
rm_init_private_state of osapi.c beside it (open-gpu-kernel-modules 595). Bodies differ by driver and often come
ready-made from GSP firmware: what is not found in a body stays None.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from dmaproof import bdf
from dmaproof.evidence.decoder import BDF, Form, context, first_match, hexadecimal
from dmaproof.evidence.event import Event
from dmaproof.evidence.lines import Line

# The function is printed by the tracepoint only; drivers before 340 wrote no "PCI:". SXids (switches) are not Xids.
_XID = re.compile(
    r"(?<![A-Za-z])Xid \((?:PCI:)?(?P<bdf>[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f](?:\.[0-7])?)"
    r"(?: GPU-I:(?P<gpu_instance>\d{1,3}))?(?: GPU-CI:(?P<compute_instance>\d{1,3}))?\): (?P<xid>\d{1,5})"
    r"(?P<body>,.*)",  # the comma is in every line of every driver: without it the number may have been cut
    re.IGNORECASE | re.DOTALL,
)
_LOST = re.compile(
    rf"NVRM: GPU (?:at )?(?:PCI:)?(?P<bdf>{BDF})\b.*?has fallen off the bus",
    re.IGNORECASE,
)
# rm_init_private_state (osapi.c) breaks this one over three lines.
_GPU = re.compile(rf"NVRM: The NVIDIA GPU (?P<bdf>{BDF})")
_SILENT = re.compile(r"NVRM: fallen off the bus and is not responding to")
_PID = re.compile(r"^,? ?pid='?(?P<pid>\d{1,10}|<unknown>|)'?(?=,|$)")
_NAME = re.compile(r"\bname='?(?P<name>.+?)'?(?:, |,?$)")  # a name may hold nearly anything, but ", " ends the field
_CHANNEL = re.compile(r"\b(?:Ch|channel|Channel) (?:0x)?(?P<channel>[0-9a-fA-F]{8})\b")
# High and low half of the address are printed as two numbers: 0x2b57_b3000000.
_MMU = re.compile(
    r"(?:\bENGINE (?P<engine>[^\s,.]+)[^@]{0,120})?"
    r"\bfaulted @ 0x(?P<high>[0-9a-f]{1,8})_(?P<low>[0-9a-f]{1,8})\b"
    r"(?:\.? +Fault is of type +(?P<fault_type>[A-Z0-9_]+)(?: +(?P<access_type>ACCESS_TYPE_[A-Z_]+))?)?",
    re.IGNORECASE,
)
_CAUSE = re.compile(r" caused by previous Xid (?P<xid>\d{1,5})\s*$")
_UNKNOWN = "<unknown>"
# What the bodies of single Xids tell besides; their words are those of the driver and of GSP firmware.
_NVLINK = re.compile(
    r", (?:(?P<unit>[A-Z][A-Z0-9_]{1,40}) {1,20})?(?P<severity>Fatal|Nonfatal) [^,]{0,80}?"
    r"\bLink (?P<link>-1\b|\d{1,3}\b)"
)
_LINK_74 = re.compile(r"(?P<severity>[Ff]atal|[Nn]on-?fatal) error detected on link (?P<link>\d{1,3})")
_ACTION = re.compile(
    r"recovery action changed from 0x[0-9a-f]+ \([^)]*\) to (?P<number>0x[0-9a-f]{1,8}) \((?P<name>[^)]{1,60})\)"
)
_RPC = re.compile(
    r"Timeout after (?P<seconds>\d{1,6})s of waiting for RPC response.*?function \d+ \((?P<name>\w{1,60})\)"
)
_CONTAINED = re.compile(r"\b(?P<name>Contained|Uncontained):")
_PHYSICAL = re.compile(r"\bphysAddr (?P<address>0x[0-9a-f]{1,16})\b|\brow \((?P<row>0x[0-9a-f]{1,16})\)", re.IGNORECASE)
_NVLINK_XIDS = frozenset(range(144, 151))


def _xid(match: re.Match[str], line: Line) -> Event:
    body = match["body"]
    pid, name = _process(body)
    number = int(match["xid"])
    channel, cause, fault = _CHANNEL.search(body), _CAUSE.search(body), _MMU.search(body)
    event = Event(
        kind="xid",
        family="nvidia",
        text=line.text,
        time=line.time,
        bdf=bdf.parse(match["bdf"]),
        xid=number,
        gpu_instance=None if match["gpu_instance"] is None else int(match["gpu_instance"]),
        compute_instance=None if match["compute_instance"] is None else int(match["compute_instance"]),
        pid=pid,
        process=name,
        channel=hexadecimal(channel["channel"] if channel else None),
        caused_by=int(cause["xid"]) if cause else None,
        engine=fault["engine"] if fault else None,
        va=int(fault["high"], 16) << 32 | int(fault["low"], 16) if fault else None,
        fault_type=fault["fault_type"] if fault else None,
        access_type=fault["access_type"] if fault else None,
    )
    return _detailed(event, number, body)


def _detailed(event: Event, number: int, body: str) -> Event:
    """``event`` with what the body of Xid ``number`` tells besides."""
    if number in _NVLINK_XIDS and (match := _NVLINK.search(body)):
        link = None if match["link"] == "-1" else f"link {int(match['link'])}"  # -1: of no single link
        return replace(event, event=match["unit"], severity=_severity(match["severity"]), engine=link)
    if number == 74 and (match := _LINK_74.search(body)):
        return replace(event, severity=_severity(match["severity"]), engine=f"link {int(match['link'])}")
    if number == 154 and (match := _ACTION.search(body)):
        return replace(event, event=match["name"], reason=int(match["number"], 16))
    if number == 119 and (match := _RPC.search(body)):
        return replace(event, event=match["name"], duration_s=float(match["seconds"]))
    if number in (94, 95) and (match := _CONTAINED.search(body)):
        return replace(event, event=match["name"])
    if number in (48, 63, 64) and (match := _PHYSICAL.search(body)):
        return replace(event, address=int(match["address"] or match["row"], 16))
    return event


def _severity(text: str) -> Literal["nonfatal", "fatal"]:
    return "fatal" if text.lower() == "fatal" else "nonfatal"


def _process(body: str) -> tuple[int | None, str | None]:
    """The allocator of the channel, each part None where the driver did not know it."""
    match = _PID.match(body)
    if match is None:
        return None, None
    name = _NAME.match(body, match.end() + 2) if body.startswith(", ", match.end()) else None
    pid = int(match["pid"]) if match["pid"].isdigit() else None
    return pid, None if name is None or name["name"] == _UNKNOWN else name["name"]


def _lost(match: re.Match[str], line: Line) -> Event:
    lost = bdf.parse(match["bdf"])
    return Event(kind="device-lost", family="nvidia", text=line.text, time=line.time, bdf=lost)


def _silent(_match: re.Match[str], line: Line) -> Event:
    return Event(kind="device-lost", family="nvidia", text=line.text, time=line.time)


_GPU_FORM, _SILENT_FORM = Form("The NVIDIA GPU ", _GPU, context), Form("fallen off the bus and", _SILENT, _silent)
FORMS = (Form("Xid (", _XID, _xid), Form("has fallen off the bus", _LOST, _lost), _GPU_FORM, _SILENT_FORM)


class XidDecoder:
    """Decodes Xid lines, each alone, and lost GPUs, whose address may stand two lines before."""

    def __init__(self) -> None:
        self.needles = ("NVRM: ", "Xid (PCI:")
        self._gpu: tuple[Line, str] | None = None

    @property
    def idle(self) -> bool:
        return self._gpu is None

    def feed(self, line: Line) -> Sequence[Event] | None:
        found = first_match(FORMS, line)
        if found is None:
            return None
        form, match = found
        before, self._gpu = self._gpu, None
        if form is _GPU_FORM:
            self._gpu = (line, bdf.parse(match["bdf"]))
            return ()
        event = form.event(match, line)
        if event is not None and form is _SILENT_FORM and before is not None:
            event = replace(event, bdf=before[1], text=f"{before[0].text}\n{line.text}")
        return () if event is None else (event,)

    def finish(self) -> Sequence[Event]:
        self._gpu = None
        return ()
