"""BARs that lie where DMA cannot reach them: peers cannot be mapped there, or the IOMMU eats what is sent.

A VFIO guest's peers are mapped at the addresses that the BARs have, so a BAR in a reserved region of an IOMMU group
cannot be mapped for it (vfio_iommu_type1.c; AMD reserves 0xfd00000000-0xffffffffff, drivers/iommu/amd/iommu.c), nor one
above the IOMMU's own width (VT-d: capability register, bits 21:16, which sysfs shows as ``intel-iommu/cap``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dmaproof.pci import address_map, iommu, sysfs
from dmaproof.pci.iommu_state import Group, ReservedRegion
from dmaproof.pci.sysfs import Bar, PciFunction

_MEM = 0x200  # IORESOURCE_MEM, include/linux/ioport.h
_HARMLESS = "direct-relaxable"  # may be given up to a guest: include/linux/iommu.h


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """BAR ``bar`` of ``bdf``, and the bus addresses ``first``..``last`` where DMA to it ends."""

    bdf: str
    bar: int
    address: int | None
    nbytes: int | None
    why: Literal["reserved", "too-wide", "unassigned"]
    first: int | None = None
    last: int | None = None


def of_sysfs(root: Path, bdfs: Collection[str] | None = None) -> tuple[Conflict, ...]:
    """The conflicts of ``bdfs`` (None: of all functions but bridges) on the node under ``root``."""
    functions = [one for one in sysfs.functions(root) if not one.is_bridge and (bdfs is None or one.bdf in bdfs)]
    return conflicts(functions, iommu.groups(root), widths(root))


def conflicts(
    functions: Sequence[PciFunction], groups: Sequence[Group], widths: Mapping[str, int]
) -> tuple[Conflict, ...]:
    """One conflict a BAR and reason. ``widths`` is the address width, in bits, of the IOMMU over each function."""
    regions = {bdf: group.reserved or () for group in groups for bdf in group.members}
    return tuple(
        conflict
        for one in functions
        for bar in one.bars or ()
        if bar.flags & _MEM
        for conflict in _of(one.bdf, bar, regions.get(one.bdf, ()), widths.get(one.bdf))
    )


def _of(bdf: str, bar: Bar, regions: Sequence[ReservedRegion], width: int | None) -> Iterator[Conflict]:
    if not address_map.is_assigned(bar):
        yield Conflict(bdf=bdf, bar=bar.index, address=None, nbytes=bar.nbytes, why="unassigned")
        return
    end = bar.address + bar.nbytes - 1
    for region in regions:
        if region.type != _HARMLESS and region.first <= end and bar.address <= region.last:
            yield _at(bdf, bar, "reserved", region.first, region.last)
    if width is not None and end >> width:
        yield _at(bdf, bar, "too-wide", 1 << width, None)


def _at(bdf: str, bar: Bar, why: Literal["reserved", "too-wide"], first: int, last: int | None) -> Conflict:
    return Conflict(bdf=bdf, bar=bar.index, address=bar.address, nbytes=bar.nbytes, why=why, first=first, last=last)


def widths(root: Path) -> dict[str, int]:
    """How many bits of an address the IOMMU over each function takes, where the kernel shows it (VT-d alone does)."""
    found = {}
    for unit in sysfs.names(root / iommu.CLASS):
        capability = sysfs.text(root / iommu.CLASS / unit / "intel-iommu/cap")
        try:
            bits = (int(capability or "", 16) >> 16 & 0x3F) + 1
        except ValueError:
            continue
        found.update(dict.fromkeys(sysfs.names(root / iommu.CLASS / unit / "devices"), bits))
    return found
