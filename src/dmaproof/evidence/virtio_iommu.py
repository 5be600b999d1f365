"""virtio-iommu: viommu_fault_handler of drivers/iommu/virtio-iommu.c.

``EP`` is the endpoint id. QEMU gives a PCI function its requester id (hw/virtio/virtio-iommu.c), and the VIOT table
counts from there for further segments; an id of more than 16 bits names no function by itself.
"""

from __future__ import annotations

import re
from typing import Literal

from dmaproof import bdf
from dmaproof.evidence.decoder import Form, FormsDecoder, hexadecimal
from dmaproof.evidence.event import Event
from dmaproof.evidence.lines import Line

_FAULT = re.compile(
    r"(?P<reason>domain|page|unknown) fault from EP (?P<endpoint>\d{1,10})"
    r"(?: at (?P<address>0x[0-9a-f]{1,16})(?: \[(?P<flags>[RWX]{0,3})\])?)?"
)


def _fault(match: re.Match[str], line: Line) -> Event:
    endpoint = int(match["endpoint"])
    return Event(
        kind="iommu-fault",
        family="virtio-iommu",
        text=line.text,
        time=line.time,
        bdf=bdf.from_requester_id(endpoint) if endpoint <= 0xFFFF else None,
        address=hexadecimal(match["address"]),
        access=_access(match["flags"] or ""),
        event=match["reason"],
    )


def _access(flags: str) -> Literal["read", "write"] | None:
    return "write" if "W" in flags else "read" if "R" in flags else None


FORMS = (Form("fault from EP ", _FAULT, _fault),)


class VirtioIommuDecoder(FormsDecoder):
    """Decodes virtio-iommu faults; every one stands alone."""

    def __init__(self) -> None:
        super().__init__(FORMS)
