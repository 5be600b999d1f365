"""Which parts of a BAR ought to be in stage 2: those that QEMU mmapped, without the table of MSI-X.

hw/vfio/region.c: what the kernel offers for mmap is mmapped, whole or in the parts that it names, unless the device has
x-no-mmap. hw/vfio/pci.c lays its own memory over the table of MSI-X, and leaves its pages out where the kernel
does not let them be mapped (vfio_pci_fixup_msix_region).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dmaproof.guest.audit.bars import Bar
from dmaproof.guest.audit.finding import Finding, LeftOut
from dmaproof.guest.audit.pairing import Pairing
from dmaproof.guest.audit.state import MMAP, Region, State
from dmaproof.guest.audit.table import Entry, Range, joined, less
from dmaproof.guest.audit.trace import Trace

PAGE_NBYTES = 4096
_MMAPPED = "vfio_region_mmap"


@dataclass(frozen=True, slots=True)
class Wanted:
    """``range`` ought to be mapped; it lies in ``whole``, the BAR. ``finding`` is what is said where it is not."""

    range: Range
    whole: Range
    finding: Finding
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Ought:
    """Of one BAR: what ought to be mapped, what need not, and what is wrong whatever is mapped."""

    wanted: tuple[Wanted, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    findings: tuple[Finding, ...] = ()


def of_bar(trace: Trace, bar: Bar, pairing: Pairing) -> Ought:
    host = pairing.hosts[bar.guest]
    finding = Finding(why="hole", guest=bar.guest, host=host, assumed=bar.guest in pairing.assumed, bar=bar.index)
    region = trace.state.regions.get((host, bar.index))
    if not bar.memory:
        return Ought()
    if bar.address is None:
        return Ought(left_out=(LeftOut(finding.device, None, "the guest gave it no address, or its decoding is off"),))
    whole = Range(bar.address, bar.address + bar.nbytes - 1)
    if bar.nbytes < PAGE_NBYTES:
        return Ought(left_out=(LeftOut(finding.device, whole, "it is smaller than a page"),))
    if region is not None and not region.flags & MMAP:
        return Ought(left_out=(LeftOut(finding.device, whole, "the kernel offers no mmap of it"),))
    return _of_memory(trace, whole, region, finding)


def _of_memory(trace: Trace, whole: Range, region: Region | None, finding: Finding) -> Ought:
    window = trace.state.msix.get((finding.host or "", finding.bar or 0))
    table = [inside] if window and (inside := _moved(window, whole.first).overlap(whole)) else []
    left_out = [LeftOut(finding.device, one, "pages of the MSI-X table, which QEMU keeps for itself") for one in table]
    rest = less(whole, table)
    if region is not None and not region.mmaps and trace.has(_MMAPPED):
        findings = (_not_mmapped(finding, part) for part in rest)
        return Ought(left_out=tuple(left_out), findings=tuple(findings))
    mmapped = [_moved(one, whole.first) for one in region.mmaps] if region is not None and region.mmaps else [whole]
    outside = [gap for part in rest for gap in less(part, mmapped)]
    left_out += [LeftOut(finding.device, one, "the kernel offers no mmap of this part") for one in outside]
    enabled = region is None or region.enabled
    inside_parts = [part for mmap in joined(mmapped) if (one := mmap.overlap(whole)) for part in less(one, table)]
    wanted = (Wanted(part, whole, finding, enabled) for part in inside_parts)
    return Ought(tuple(wanted), tuple(left_out))


def _not_mmapped(finding: Finding, where: Range | None) -> Finding:
    return Finding(
        why="not-mmapped",
        guest=finding.guest,
        host=finding.host,
        assumed=finding.assumed,
        bar=finding.bar,
        range=where,
    )


def _moved(offsets: Range, address: int) -> Range:
    return Range(address + offsets.first, address + offsets.last)


def never_mapped(trace: Trace) -> Iterator[Finding]:
    """BARs that cannot be in stage 2 wherever the guest has them: the kernel offers their mmap, and QEMU has none."""
    for (host, index), region in sorted(trace.state.regions.items()):
        if index > 5 or region.nbytes < PAGE_NBYTES or not region.flags & MMAP:
            continue
        table = trace.state.msix.get((host, index))
        if table is not None and table.holds(Range(0, region.nbytes - 1)):
            continue
        if not region.mmaps and trace.has(_MMAPPED):
            yield _not_mmapped(Finding(why="hole", host=host, bar=index), None)
        elif not region.enabled:
            yield Finding(why="disabled", host=host, bar=index)


def named(state: State, entry: Entry) -> tuple[str | None, int | None]:
    """The host's function and BAR of a map that failed: by its dma-buf, by its name, by its size."""
    for (host, index), region in state.regions.items():
        if entry.origin is None:
            break
        if entry.origin in {f"fd={fd}" for fd in region.fds if fd >= 0}:
            return host, index
        if region.name and entry.origin.startswith(f"{region.name} "):
            return host, index
    return by_size(state, entry.range.nbytes)


def by_size(state: State, nbytes: int) -> tuple[str | None, int | None]:
    """The one region that has, or has mmapped, so many bytes; else nobody's."""
    fits = [
        key
        for key, region in state.regions.items()
        if key[1] <= 5 and nbytes in {region.nbytes, *(one.nbytes for one in region.mmaps)}
    ]
    return fits[0] if len(fits) == 1 else (None, None)


def errno_of(entry: Entry) -> int | None:
    """QEMU traces what ioctl returned, -1; its message says the errno."""
    return -entry.code if entry.code is not None and entry.code < -1 else None
