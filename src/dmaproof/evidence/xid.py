"""NVIDIA Xids: krcReportXid of src/nvidia/src/kernel/gpu/rc/kernel_rc.c, the tracepoint nvidia:nvidia_dev_xid of
kernel-open/nvidia/nv-tracepoint.h, and osHandleGpuLost of src/nvidia/arch/nvalloc/unix/src/osinit.c
(open-gpu-kernel-modules 595). Bodies differ by driver and often come ready-made from GSP firmware: what is not found
in a body stays None.
"""

from __future__ import annotations

import re

from dmaproof import bdf
from dmaproof.evidence.decoder import Form, FormsDecoder, hexadecimal
from dmaproof.evidence.event import Event
from dmaproof.evidence.lines import Line

# The function is printed by the tracepoint only; drivers before 340 wrote no "PCI:". SXids (switches) are not Xids.
_XID = re.compile(
    r"(?<![A-Za-z])Xid \((?:PCI:)?(?P<bdf>[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}(?:\.[0-7])?)"
    r"(?: GPU-I:(?P<gpu_instance>\d{1,3}))?(?: GPU-CI:\d{1,3})?\): (?P<xid>\d{1,5})\b(?P<body>.*)",
    re.IGNORECASE | re.DOTALL,
)
_LOST = re.compile(
    r"NVRM: GPU (?:at )?(?P<bdf>[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])\b.*?has fallen off the bus",
    re.IGNORECASE,
)
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


def _xid(match: re.Match[str], line: Line) -> Event:
    body = match["body"]
    pid, name = _process(body)
    channel, cause, fault = _CHANNEL.search(body), _CAUSE.search(body), _MMU.search(body)
    return Event(
        kind="xid",
        family="nvidia",
        text=line.text,
        time=line.time,
        bdf=bdf.parse(match["bdf"]),
        xid=int(match["xid"]),
        gpu_instance=None if match["gpu_instance"] is None else int(match["gpu_instance"]),
        pid=pid,
        process=name,
        channel=hexadecimal(channel["channel"] if channel else None),
        caused_by=int(cause["xid"]) if cause else None,
        engine=fault["engine"] if fault else None,
        va=int(fault["high"], 16) << 32 | int(fault["low"], 16) if fault else None,
        fault_type=fault["fault_type"] if fault else None,
        access_type=fault["access_type"] if fault else None,
    )


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


FORMS = (Form("Xid (", _XID, _xid), Form("has fallen off the bus", _LOST, _lost))


class XidDecoder(FormsDecoder):
    """Decodes Xid lines; every one stands alone."""

    def __init__(self) -> None:
        super().__init__(FORMS)
