"""What each of QEMU's trace events changes in a State; the match is of its form (dmaproof.guest.audit.forms)."""

from __future__ import annotations

import re

from dmaproof.guest.audit.state import Placed, Region, State
from dmaproof.guest.audit.table import Entry, Range

_TOP = (1 << 64) - 1
_PAGE_NBYTES = 4096
_MSIX_ENTRY_NBYTES = 16  # PCI_MSIX_ENTRY_SIZE of include/uapi/linux/pci_regs.h

Match = re.Match[str]


def _span(match: Match) -> Range:
    first = int(match["first"], 16)
    return Range(first, max(first, int(match["last"], 16)))


def _sized(match: Match) -> Range:
    first, nbytes = int(match["first"], 16), int(match["size"], 16)
    return Range(first, min(first + max(nbytes, 1) - 1, _TOP))


def add_ram(state: State, match: Match) -> None:
    state.add_section(Entry(_span(match), origin=match["origin"]))


def add_iommu(state: State, match: Match) -> None:
    state.translated.add(Entry(_span(match), origin=match["name"]))


def remove(state: State, match: Match) -> None:
    state.remove_section(_span(match))


def skip(state: State, match: Match) -> None:
    _skipping(state, match["what"], _span(match))


def skip_add(state: State, match: Match) -> None:
    _skipping(state, "region_add", _span(match))


def skip_del(state: State, match: Match) -> None:
    _skipping(state, "region_del", _span(match))


def _skipping(state: State, what: str, span: Range) -> None:
    """``tracking_update`` is no change of sections."""
    if what == "region_add":
        state.skipped.add(Entry(span))
    elif what == "region_del":
        state.skipped.remove(span)


def lost(state: State, match: Match) -> None:
    """Two that the listener was told of, and does not map: not aligned to pages, or marked to be left out."""
    state.lose(Entry(_sized(match), origin=match["name"]))


def refused(state: State, match: Match) -> None:
    """QEMU's own message, on stderr: the one place where an errno is told."""
    entry = Entry(_sized(match), code=-int(match["errno"]))
    state.lose(entry)
    for ioas in state.ioases.values():
        for failed in ioas.failed.within(entry.range):
            if failed.range == entry.range:
                ioas.failed.add(Entry(failed.range, failed.readonly, failed.origin, entry.code))


def map_made(state: State, match: Match) -> None:
    entry = Entry(_sized(match), match["readonly"] != "0", match["origin"], int(match["code"]))
    state.mapped((int(match["iommufd"]), int(match["ioas"])), entry)


def unmap(state: State, match: Match) -> None:
    if match["code"] == "0":
        state.unmapped((int(match["iommufd"]), int(match["ioas"])), _sized(match))


def free(state: State, match: Match) -> None:
    """Ids are one space for all objects of an iommufd; of those only an IOAS has maps."""
    if match["code"] == "0":
        state.ioases.pop((int(match["iommufd"]), int(match["id"])), None)


def unmap_nothing(state: State, match: Match) -> None:
    """Also a map that failed is taken away: of it nothing is there."""
    ioas = state.ioases.get((int(match["iommufd"]), int(match["ioas"])))
    if ioas is not None:
        ioas.failed.remove(_sized(match))


def attach(state: State, match: Match) -> None:
    state.attached.add(match["host"])


def detach(state: State, match: Match) -> None:
    state.attached.discard(match["host"])


def setup(state: State, match: Match) -> None:
    key = (match["host"], int(match["index"]))
    region = Region(int(match["flags"], 16), int(match["size"], 16), match["name"])
    state.regions[key] = state.named[region.name] = region


def gone(state: State, match: Match) -> None:
    key = (match["host"], int(match["index"]))
    state.attached.discard(match["host"])
    region = state.regions.pop(key, None)
    if region is not None:
        state.named.pop(region.name, None)
    state.msix.pop(key, None)


def _region(state: State, name: str) -> Region | None:
    """By the name that its memory region has, such as ``0000:01:00.0 BAR 0``."""
    return state.named.get(name)


def mmap(state: State, match: Match) -> None:
    if (region := _region(state, match["name"])) is not None:
        region.mmaps.append(_span(match))


def unmmap(state: State, match: Match) -> None:
    region = _region(state, match["name"])
    if region is not None and _span(match) in region.mmaps:
        region.mmaps.remove(_span(match))


def mmap_fault(state: State, match: Match) -> None:
    if (region := _region(state, match["name"])) is not None:
        region.faults.append(int(match["code"]))


def enable(state: State, match: Match) -> None:
    if (region := _region(state, match["name"])) is not None:
        region.enabled = match["on"] != "0"


def dmabuf(state: State, match: Match) -> None:
    region = state.regions.get((match["host"], int(match["index"])))
    if region is not None and match["fd"] is not None:
        region.fds.add(int(match["fd"]))


def msix(state: State, match: Match) -> None:
    entries = state.msix_entries[match["host"]] = int(match["entries"])
    state.msix[match["host"], int(match["bar"])] = _window(int(match["offset"], 16), entries)


def msix_moved(state: State, match: Match) -> None:
    """``x-msix-relocation``: the table is another BAR's from here on."""
    host = match["host"]
    for key in [key for key in state.msix if key[0] == host]:
        del state.msix[key]
    entries = state.msix_entries.get(host, 1)
    state.msix[host, int(match["bar"])] = _window(int(match["offset"], 16), entries)


def _window(offset: int, entries: int) -> Range:
    end = offset + entries * _MSIX_ENTRY_NBYTES
    return Range(offset & -_PAGE_NBYTES, (end - 1) | (_PAGE_NBYTES - 1))


def place(state: State, match: Match) -> None:
    key = (match["guest"], int(match["bar"]))
    state.placed[key] = Placed(match["device"], int(match["first"], 16), int(match["size"], 16))


def displace(state: State, match: Match) -> None:
    state.placed.pop((match["guest"], int(match["bar"])), None)


def write(state: State, match: Match) -> None:
    state.written[match["host"], (int(match["at"], 16) - 0x10) // 4] = int(match["value"], 16)
