"""DMA that QEMU's IOMMUs refused, as QEMU itself traces it: an oracle beside the kernel's own fault lines.

The events are hw/i386/trace-events' ``vtd_dmar_fault`` and ``amdvi_page_fault``, hw/virtio/trace-events'
``virtio_iommu_report_fault``, and hw/arm/trace-events' ``smmuv3_record_event``, which became
``smmuv3_propagate_event``. The SMMU's has the stream only: its address stands in the guest error that
``smmuv3_translate`` (hw/arm/smmuv3.c) logs right before. AMD-Vi's has the address and nobody's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from dmaproof import bdf
from dmaproof.evidence.event import Event

# With -msg timestamp=on there is a time, as 2026-11-21T17:28:50.867296Z or, of old, 1234@1700000000.123456:
_LINE = re.compile(r"^(?:\d{4}-\S{1,40}Z |\d{1,10}@\d{1,12}\.\d{1,6}:)?(?P<text>(?P<name>[a-z0-9_]{1,60})\b.*)$")
_HEX = r"0x[0-9a-f]{1,16}"
_VTD = re.compile(rf"sid (?P<sid>{_HEX}) fault (?P<reason>\d{{1,5}}) addr (?P<address>{_HEX}) write (?P<write>[01])\b")
_AMDVI = re.compile(rf"accessing guest physical address (?P<address>{_HEX})")
_VIRTIO = re.compile(
    rf"FAULT reason=(?P<reason>\d{{1,3}}) flags=\d{{1,10}} endpoint=(?P<sid>\d{{1,10}}) address =(?P<address>{_HEX})"
)
_SMMU = re.compile(rf"(?:SMMU_EVT_)?(?P<event>[A-Z0-9_]{{1,40}}) sid=(?P<sid>{_HEX})")
_SMMU_ADDRESS = re.compile(rf"translation failed for iova=(?P<address>{_HEX}) ")


def read(lines: Iterable[str]) -> Iterator[Event]:
    """The refusals among the lines of a trace, in their order; times are not taken over (they are QEMU's clock).

    Events of a storm each stand for one access, of four bytes where ``edu`` makes it.
    """
    address: int | None = None
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            continue
        text, event = match["text"], None
        if found := _SMMU_ADDRESS.search(text):
            address = int(found["address"], 16)
        elif form := _FORMS.get(match["name"]):
            event = form(text)
        if event is not None:
            yield replace(event, address=address) if event.family == "smmuv3" else event
            address = None


def _vtd(text: str) -> Event | None:
    match = _VTD.search(text)
    if match is None:
        return None
    return Event(
        kind="iommu-fault",
        family="vtd",
        text=text,
        bdf=_requester(int(match["sid"], 16)),
        address=int(match["address"], 16),
        access="write" if match["write"] == "1" else "read",
        reason=int(match["reason"]),
    )


def _amdvi(text: str) -> Event | None:
    match = _AMDVI.search(text)
    if match is None:
        return None
    return Event(kind="iommu-fault", family="amdvi", text=text, address=int(match["address"], 16))


def _virtio(text: str) -> Event | None:
    """Its flags say that there is an address (VIRTIO_IOMMU_FAULT_F_ADDRESS), and not what the access was."""
    match = _VIRTIO.search(text)
    if match is None:
        return None
    return Event(
        kind="iommu-fault",
        family="virtio-iommu",
        text=text,
        bdf=_requester(int(match["sid"])),
        address=int(match["address"], 16),
        reason=int(match["reason"]),
    )


def _smmu(text: str) -> Event | None:
    match = _SMMU.search(text)
    if match is None:
        return None
    sid = int(match["sid"], 16)
    return Event(kind="iommu-fault", family="smmuv3", text=text, bdf=_requester(sid), event=match["event"])


def _requester(number: int) -> str | None:
    """QEMU numbers streams and endpoints by requester id; more bits than that name no function."""
    return bdf.from_requester_id(number) if number <= 0xFFFF else None


_FORMS: Mapping[str, Callable[[str], Event | None]] = {
    "vtd_dmar_fault": _vtd,
    "amdvi_page_fault": _amdvi,
    "virtio_iommu_report_fault": _virtio,
    "smmuv3_propagate_event": _smmu,
    "smmuv3_record_event": _smmu,
}
