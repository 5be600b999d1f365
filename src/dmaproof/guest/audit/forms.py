"""QEMU's trace events that the audit reads, in every form they have had, and what each changes in a State.

The formats are those of hw/vfio/trace-events, backends/trace-events and hw/pci/trace-events of QEMU 2.9 to 11.1:
until 7.2 the listener said ``SKIPPING region_add`` by events of its own, and ``[iommu]`` without a name; addresses of
BARs came with a pointer in place of a model's name until 6.2; dma-bufs came in 11.0, first without their descriptor.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dmaproof.guest.audit.state import Placed, Region, State
from dmaproof.guest.audit.table import Entry, Range

_HEX = r"0x[0-9a-f]{1,16}"
_SPAN = rf"(?P<first>{_HEX}) - (?P<last>{_HEX})"
_TOP = (1 << 64) - 1
_PAGE_NBYTES = 4096
_MSIX_ENTRY_NBYTES = 16  # PCI_MSIX_ENTRY_SIZE of include/uapi/linux/pci_regs.h

Match = re.Match[str]
Act = Callable[[State, Match], None]


@dataclass(frozen=True, slots=True)
class Form:
    """An event's text after its name, and what it does."""

    pattern: re.Pattern[str]
    act: Act


def _span(match: Match) -> Range:
    first = int(match["first"], 16)
    return Range(first, max(first, int(match["last"], 16)))


def _sized(match: Match) -> Range:
    first, nbytes = int(match["first"], 16), int(match["size"], 16)
    return Range(first, min(first + max(nbytes, 1) - 1, _TOP))


def _add_ram(state: State, match: Match) -> None:
    state.add_section(Entry(_span(match), origin=match["origin"]))


def _add_iommu(state: State, match: Match) -> None:
    state.translated.add(Entry(_span(match), origin=match["name"]))


def _remove(state: State, match: Match) -> None:
    state.remove_section(_span(match))


def _skip(state: State, match: Match) -> None:
    _skipping(state, match["what"], _span(match))


def _skip_add(state: State, match: Match) -> None:
    _skipping(state, "region_add", _span(match))


def _skip_del(state: State, match: Match) -> None:
    _skipping(state, "region_del", _span(match))


def _skipping(state: State, what: str, span: Range) -> None:
    """``tracking_update`` is no change of sections."""
    if what == "region_add":
        state.skipped.add(Entry(span))
    elif what == "region_del":
        state.skipped.remove(span)


def _lost(state: State, match: Match) -> None:
    """Two that the listener was told of, and does not map: not aligned to pages, or marked to be left out."""
    state.lose(Entry(_sized(match), origin=match["name"]))


def _refused(state: State, match: Match) -> None:
    """QEMU's own message, on stderr: the one place where an errno is told."""
    entry = Entry(_sized(match), code=-int(match["errno"]))
    state.lose(entry)
    for ioas in state.ioases.values():
        for failed in ioas.failed.within(entry.range):
            if failed.range == entry.range:
                ioas.failed.add(Entry(failed.range, failed.readonly, failed.origin, entry.code))


def _map(state: State, match: Match) -> None:
    entry = Entry(_sized(match), match["readonly"] != "0", match["origin"], int(match["code"]))
    state.mapped((int(match["iommufd"]), int(match["ioas"])), entry)


def _unmap(state: State, match: Match) -> None:
    if match["code"] == "0":
        state.unmapped((int(match["iommufd"]), int(match["ioas"])), _sized(match))


def _free(state: State, match: Match) -> None:
    """Ids are one space for all objects of an iommufd; of those only an IOAS has maps."""
    if match["code"] == "0":
        state.ioases.pop((int(match["iommufd"]), int(match["id"])), None)


def _unmap_nothing(state: State, match: Match) -> None:
    """Also a map that failed is taken away: of it nothing is there."""
    ioas = state.ioases.get((int(match["iommufd"]), int(match["ioas"])))
    if ioas is not None:
        ioas.failed.remove(_sized(match))


def _attach(state: State, match: Match) -> None:
    state.attached.add(match["host"])


def _detach(state: State, match: Match) -> None:
    state.attached.discard(match["host"])


def _setup(state: State, match: Match) -> None:
    key = (match["host"], int(match["index"]))
    region = Region(int(match["flags"], 16), int(match["size"], 16), match["name"])
    state.regions[key] = state.named[region.name] = region


def _gone(state: State, match: Match) -> None:
    key = (match["host"], int(match["index"]))
    state.attached.discard(match["host"])
    region = state.regions.pop(key, None)
    if region is not None:
        state.named.pop(region.name, None)
    state.msix.pop(key, None)


def _region(state: State, name: str) -> Region | None:
    """By the name that its memory region has, such as ``0000:01:00.0 BAR 0``."""
    return state.named.get(name)


def _mmap(state: State, match: Match) -> None:
    if (region := _region(state, match["name"])) is not None:
        region.mmaps.append(_span(match))


def _unmmap(state: State, match: Match) -> None:
    region = _region(state, match["name"])
    if region is not None and _span(match) in region.mmaps:
        region.mmaps.remove(_span(match))


def _mmap_fault(state: State, match: Match) -> None:
    if (region := _region(state, match["name"])) is not None:
        region.faults.append(int(match["code"]))


def _enable(state: State, match: Match) -> None:
    if (region := _region(state, match["name"])) is not None:
        region.enabled = match["on"] != "0"


def _dmabuf(state: State, match: Match) -> None:
    region = state.regions.get((match["host"], int(match["index"])))
    if region is not None and match["fd"] is not None:
        region.fds.add(int(match["fd"]))


def _msix(state: State, match: Match) -> None:
    entries = state.msix_entries[match["host"]] = int(match["entries"])
    state.msix[match["host"], int(match["bar"])] = _window(int(match["offset"], 16), entries)


def _msix_moved(state: State, match: Match) -> None:
    """``x-msix-relocation``: the table is another BAR's from here on."""
    host = match["host"]
    for key in [key for key in state.msix if key[0] == host]:
        del state.msix[key]
    entries = state.msix_entries.get(host, 1)
    state.msix[host, int(match["bar"])] = _window(int(match["offset"], 16), entries)


def _window(offset: int, entries: int) -> Range:
    end = offset + entries * _MSIX_ENTRY_NBYTES
    return Range(offset & -_PAGE_NBYTES, (end - 1) | (_PAGE_NBYTES - 1))


def _place(state: State, match: Match) -> None:
    key = (match["guest"], int(match["bar"]))
    state.placed[key] = Placed(match["device"], int(match["first"], 16), int(match["size"], 16))


def _displace(state: State, match: Match) -> None:
    state.placed.pop((match["guest"], int(match["bar"])), None)


def _write(state: State, match: Match) -> None:
    state.written[match["host"], (int(match["at"], 16) - 0x10) // 4] = int(match["value"], 16)


_NAMED = rf'Region "(?P<name>[^"]{{1,200}})" (?P<first>{_HEX}) size=(?P<size>{_HEX})'
_SPACE = r" iommufd=(?P<iommufd>-?\d{1,9}) ioas=(?P<ioas>-?\d{1,9})"
_IOVA = rf"{_SPACE} iova=(?P<first>{_HEX}) size=(?P<size>{_HEX})"
_RESULT = r"\((?P<code>-?\d{1,6})\)"
_MADE = rf"readonly=(?P<readonly>\d) {_RESULT}"
_PART = r"Region (?P<name>.{1,200}) mmaps\[\d{1,4}\]"
_OF_GUEST = (
    r"(?:d=0x[0-9a-f]{1,16}|(?P<device>\S{1,80})) (?P<guest>[0-9a-f]{2,4}:[0-9a-f]{2}\.[0-9a-f]{1,2})"
    rf" (?P<bar>\d{{1,2}}),(?P<first>{_HEX})\+(?P<size>{_HEX})"
)
_ATTACH = r" \((?P<host>\S{1,80})\) group -?\d{1,9}"
_HOST = r"(?P<host>\S{1,80})"
_EVENTS: Mapping[str, tuple[str, Act]] = {
    "vfio_listener_region_add_ram": (rf"region_add \[ram\] {_SPAN} \[(?P<origin>[^\]]{{1,20}})\]", _add_ram),
    "vfio_listener_region_add_iommu": (rf"region_add \[iommu\] (?:(?P<name>.{{1,80}}) )?{_SPAN}", _add_iommu),
    "vfio_listener_region_del": (rf"region_del {_SPAN}", _remove),
    "vfio_listener_region_skip": (rf"SKIPPING (?P<what>\w{{1,40}}) {_SPAN}", _skip),
    "vfio_listener_region_add_skip": (rf"SKIPPING region_add {_SPAN}", _skip_add),
    "vfio_listener_region_del_skip": (rf"SKIPPING region_del {_SPAN}", _skip_del),
    "vfio_listener_region_add_no_dma_map": (rf"{_NAMED} is not aligned to {_HEX} and cannot be mapped for DMA", _lost),
    "vfio_listener_region_skip_dma_map": (rf"{_NAMED} marked to skip IOMMU mapping", _lost),
    "iommufd_backend_map_dma": (rf"{_IOVA} addr=(?P<origin>\S{{1,20}}) {_MADE}", _map),
    "iommufd_backend_map_file_dma": (rf"{_IOVA} (?P<origin>fd=-?\d{{1,9}}) start=-?\d{{1,20}} {_MADE}", _map),
    "iommufd_backend_unmap_dma": (rf"{_IOVA} {_RESULT}", _unmap),
    "iommufd_backend_unmap_dma_non_exist": (rf" Unmap nonexistent mapping:{_IOVA} {_RESULT}", _unmap_nothing),
    "iommufd_backend_free_id": (rf" iommufd=(?P<iommufd>-?\d{{1,9}}) id=(?P<id>-?\d{{1,9}}) {_RESULT}", _free),
    "vfio_realize": (_ATTACH, _attach),
    "vfio_attach_device": (_ATTACH, _attach),
    "vfio_device_attach": (_ATTACH, _attach),
    "iommufd_cdev_connect_and_bind": (r" \[iommufd=\d{1,9}\] Successfully bound device (?P<host>\S{1,80}) .*", _attach),
    "vfio_detach_device": (_ATTACH, _detach),
    "vfio_device_detach": (_ATTACH, _detach),
    "vfio_region_setup": (
        rf'Device {_HOST}, region (?P<index>\d{{1,3}}) "(?P<name>[^"]{{0,200}})", flags: (?P<flags>{_HEX}),'
        rf" offset: {_HEX}, size: (?P<size>{_HEX})",
        _setup,
    ),
    "vfio_region_mmap": (rf"{_PART} \[{_SPAN}\]", _mmap),
    "vfio_region_unmap": (rf"{_PART} unmap \[{_SPAN}\]", _unmmap),
    "vfio_region_mmap_fault": (rf"{_PART}, \[{_HEX} - {_HEX}\], fault: (?P<code>-?\d{{1,6}})", _mmap_fault),
    "vfio_region_mmaps_set_enabled": (r"Region (?P<name>.{1,200}) mmaps enabled: (?P<on>\d)", _enable),
    "vfio_region_finalize": (rf"Device {_HOST}, region (?P<index>\d{{1,3}})", _gone),
    "vfio_region_dmabuf": (
        rf'Device {_HOST},(?: dmabuf)?(?: fd (?P<fd>-?\d{{1,9}}))? region (?P<index>\d{{1,3}}) "[^"]{{0,200}}",'
        rf" offset: {_HEX}, size: {_HEX}",
        _dmabuf,
    ),
    "vfio_msix_early_setup": (
        rf"{_HOST} PCI MSI-X CAP @0x[0-9a-f]{{1,4}}, BAR (?P<bar>\d), offset (?P<offset>{_HEX}),"
        r" entries (?P<entries>\d{1,5})\b.*",
        _msix,
    ),
    "vfio_msix_relo": (r" \((?P<host>\S{1,80})\) BAR (?P<bar>\d) offset (?P<offset>0x[0-9a-f]{1,16})", _msix_moved),
    "vfio_pci_write_config": (
        r" \((?P<host>\S{1,80}), @(?P<at>0x(?:1[048c]|2[04])), (?P<value>0x[0-9a-f]{1,8}), len=0x4\)",
        _write,
    ),
    "pci_update_mappings_add": (_OF_GUEST, _place),
    "pci_update_mappings_del": (_OF_GUEST, _displace),
}
FORMS: Mapping[str, Form] = {name: Form(re.compile(pattern), act) for name, (pattern, act) in _EVENTS.items()}
REFUSED = Form(
    re.compile(
        rf"vfio_(?:container_)?dma_map\(\S{{1,20}}, (?P<first>{_HEX}), (?P<size>{_HEX}), \S{{1,20}}\)"
        r" = -(?P<errno>\d{1,5})"
    ),
    _refused,
)
BEGINNINGS = {"vfio_realize", "vfio_attach_device", "vfio_device_attach", "iommufd_cdev_connect_and_bind"}
"""What QEMU says first of a device."""
OF_NO_MATTER = {"vfio_pci_write_config"}
"""Events of which most are about something else."""
