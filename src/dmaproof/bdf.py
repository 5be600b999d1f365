"""PCI function addresses, kept everywhere as text in one form: ``dddd:bb:dd.f``, lower case.

Text sorts, prints, travels through JSON and is what every kernel file is called; parsing happens at the edges.
"""

from __future__ import annotations

import re

from dmaproof.errors import UsageError

_FORM = re.compile(
    r"(?:(?P<domain>[0-9a-f]{1,8}):)?(?P<bus>[0-9a-f]{1,2}):(?P<device>[01]?[0-9a-f])(?:\.(?P<function>[0-7]))?",
    re.IGNORECASE,
)


def parse(text: str) -> str:
    """``text`` as ``dddd:bb:dd.f``; domain or function is 0 where left out.

    Accepts what the field writes: ``0000:01:00.0``, ``01:00.0``, ``0000:01:00`` (Xid lines),
    ``00000000:01:00.0`` (NVML). Raises UsageError for anything else.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None or (match["domain"] is None and match["function"] is None):  # two numbers could mean anything
        raise UsageError(f"{text!r} is not a PCI address: write domain:bus:device.function, such as 0000:17:00.0")
    domain, bus, device, function = (int(match[g] or "0", 16) for g in ("domain", "bus", "device", "function"))
    return f"{domain:04x}:{bus:02x}:{device:02x}.{function:x}"


def requester_id(bdf: str) -> int:
    """The 16-bit requester id (bus << 8 | device << 3 | function) of a canonical BDF."""
    _, bus, rest = bdf.split(":")
    device, function = rest.split(".")
    return int(bus, 16) << 8 | int(device, 16) << 3 | int(function, 16)


def from_requester_id(requester: int, domain: int = 0) -> str:
    """The canonical BDF of a 16-bit requester id in ``domain``."""
    return f"{domain:04x}:{requester >> 8 & 0xFF:02x}:{requester >> 3 & 0x1F:02x}.{requester & 7:x}"
