"""BARs that cannot be used: assign_resources_sorted and pci_assign_resource of drivers/pci/setup-res.c,
nv_pci_validate_bars of kernel-open/nvidia/nv-pci.c and nv_dma_map_mmio of nv-dma.c beside it
(open-gpu-kernel-modules 595), and QEMU's failures to map a BAR into
the IOMMU (vfio_container_dma_map of hw/vfio, iommufd_backend_map_dma of backends/iommufd.c).

``reason`` is the number of the BAR (of a ``dma-map`` the errno), ``address`` where it is. Windows of bridges, ROMs and
BARs of virtual functions, which are unassigned on many healthy machines, are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from dmaproof import bdf
from dmaproof.evidence.decoder import BDF, Form, context, first_match
from dmaproof.evidence.event import Event
from dmaproof.evidence.lines import Line

_RANGE = r"\[(?:mem|io|\?\?\?) (?:size )?(?P<range>0x[0-9a-f]{1,16}(?:-0x[0-9a-f]{1,16})?)[^\]]{0,40}\]"
_ASSIGN = re.compile(
    rf"(?P<bdf>{BDF}): BAR (?P<bar>[0-5])(?: {_RANGE})?:? ?"
    r"(?P<why>can't assign; [\w ]{1,30}|no space for|can't claim; [\w ]{1,40})"
)
_HEADING = re.compile(r"NVRM: This PCI I/O region assigned to your NVIDIA device is invalid:")
_INVALID = re.compile(
    rf"NVRM: BAR(?P<bar>[0-5]) is \d{{1,9}}M @ (?P<address>0x[0-9a-f]{{1,16}}) \((?:PCI:)?(?P<bdf>{BDF})\)"
)
_MAP = re.compile(
    r"vfio_(?:container_)?dma_map\(0x[0-9a-f]{1,16}, (?P<address>0x[0-9a-f]{1,16}), 0x[0-9a-f]{1,16},"
    r" 0x[0-9a-f]{1,16}\) = -(?P<errno>\d{1,5})"
)
_PEER = re.compile(
    rf"NVRM: (?:GPU )?(?P<bdf>{BDF}): Failed to DMA map MMIO range"
    r" \[(?P<address>0x[0-9a-f]{1,16})-0x[0-9a-f]{1,16}\]"
)
# Asked only where errno was EFAULT; but the trace that QEMU writes in between may have set it anew before %m.
_IOMMUFD = re.compile(r"IOMMU_IOAS_MAP(?:_FILE)? failed: [^,\n]{1,80}, PCI BAR\?")
_EFAULT = 14
_NOTHING = "0x0"


def _assign(match: re.Match[str], line: Line) -> Event:
    first, dash, _ = (match["range"] or "").partition("-")
    return Event(
        kind="bar",
        family="pcie",
        text=line.text,
        time=line.time,
        bdf=bdf.parse(match["bdf"]),
        reason=int(match["bar"]),
        address=int(first, 16) if dash else None,
        event=match["why"].removesuffix(" for"),
    )


def _invalid(match: re.Match[str], line: Line) -> Event:
    return Event(
        kind="bar",
        family="nvidia",
        text=line.text,
        time=line.time,
        bdf=bdf.parse(match["bdf"]),
        reason=int(match["bar"]),
        address=None if match["address"] == _NOTHING else int(match["address"], 16),
        event="invalid",
    )


def _map(match: re.Match[str], line: Line) -> Event | None:
    """Only EFAULT: the memory has no pages behind it that could be pinned, as a BAR that VFIO has mapped."""
    if int(match["errno"]) != _EFAULT:
        return None
    address = int(match["address"], 16)
    return Event(
        kind="bar", family="pcie", text=line.text, time=line.time, reason=_EFAULT, address=address, event="dma-map"
    )


def _iommufd(_match: re.Match[str], line: Line) -> Event:
    return Event(kind="bar", family="pcie", text=line.text, time=line.time, reason=_EFAULT, event="dma-map")


def _peer(match: re.Match[str], line: Line) -> Event:
    """``bdf`` is the one that was to reach the range; whose BAR it is, the address tells."""
    return Event(
        kind="bar",
        family="nvidia",
        text=line.text,
        time=line.time,
        bdf=bdf.parse(match["bdf"]),
        address=int(match["address"], 16),
        event="dma-map",
    )


_WARNING = Form("IOMMU_IOAS_MAP", _IOMMUFD, _iommufd)
_MAPPED = Form("dma_map(", _MAP, _map)
_HEAD = Form("NVIDIA device is invalid", _HEADING, context)
_BODY = Form("NVRM: BAR", _INVALID, _invalid)
FORMS = (
    Form("t assign; ", _ASSIGN, _assign),
    Form("no space for", _ASSIGN, _assign),
    Form("t claim; ", _ASSIGN, _assign),
    _HEAD,
    _BODY,
    Form("DMA map MMIO range", _PEER, _peer),
    _WARNING,
    _MAPPED,
)


class BarDecoder:
    """Decodes lines about BARs. QEMU's warning has the address on the line after it, NVRM's heading the BAR."""

    def __init__(self) -> None:
        self.needles = ("NVRM: ", "t assign; ", "no space for", "t claim; ", "IOMMU_IOAS_MAP", "dma_map(")
        self._heading: Line | None = None
        self._warning: Event | None = None

    @property
    def idle(self) -> bool:
        return self._heading is None and self._warning is None

    def feed(self, line: Line) -> Sequence[Event] | None:
        found = first_match(FORMS, line)
        if found is None:
            return None
        form, match = found
        event = form.event(match, line)
        if form is _HEAD:
            self._heading = line
            return ()
        if form is _BODY and event is not None:
            return (self._with_heading(event),)
        if form is _WARNING:
            done, self._warning = self.finish(), event
            return done
        if form is _MAPPED and event is not None:
            return (self._with_warning(event),)
        return () if event is None else (event,)

    def _with_heading(self, event: Event) -> Event:
        heading, self._heading = self._heading, None
        return event if heading is None else replace(event, text=f"{heading.text}\n{event.text}")

    def _with_warning(self, event: Event) -> Event:
        warning, self._warning = self._warning, None
        return event if warning is None else replace(event, text=f"{warning.text}\n{event.text}", time=warning.time)

    def finish(self) -> Sequence[Event]:
        warning, self._warning, self._heading = self._warning, None, None
        return () if warning is None else (warning,)
