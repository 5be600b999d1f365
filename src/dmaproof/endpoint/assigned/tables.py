"""Workloads: the IOMMU's own page tables, compared with what was mapped."""

from __future__ import annotations

from dataclasses import dataclass

from dmaproof.endpoint.assigned.engine import HOME, TARGET, engine
from dmaproof.endpoint.assigned.peer import exported_to
from dmaproof.endpoint.mmio import bar_of
from dmaproof.endpoint.ram import physical_address
from dmaproof.vfio.memory import PAGE_NBYTES, Ram
from dmaproof.vfio.page_tables import Page, read
from dmaproof.vfio.space import Backend

_NPAGES = 3


@dataclass(frozen=True, slots=True)
class Comparison:
    """Pages that were mapped and are not in the tables, or are there otherwise; and pages that are there but should
    not be: with everything mapped, and after the second mapping was taken away."""

    pages: int
    missing: tuple[Page, ...]
    surplus: tuple[Page, ...]
    stale: tuple[Page, ...]


def memory_tables(bdf: str, backend: Backend) -> Comparison:
    """The tables of edu ``bdf`` with a page at HOME and three pages, read-only, at TARGET. Raises Unsupported where the
    kernel does not show its tables."""
    with Ram(_NPAGES * PAGE_NBYTES) as ram, engine(bdf, backend) as one:
        one.space.map(ram.address, ram.nbytes, TARGET, write=False)
        home = _memory(one.ram, HOME, True)
        found, wanted = read(bdf), home | _memory(ram, TARGET, False)
        one.space.unmap(TARGET, ram.nbytes)
        return _compared(found, wanted, read(bdf) - home)


def peer_tables(source: str, target: str) -> Comparison:
    """The same with BAR0 of ``target``, a dma-buf, in place of memory."""
    bar = bar_of(target)
    with engine(source, "iommufd", (target,)) as one, exported_to(one):
        home = _memory(one.ram, HOME, True)
        there = {Page(TARGET + at, bar.address + at, True, True) for at in range(0, bar.nbytes, PAGE_NBYTES)}
        found = read(source)
        one.space.unmap(TARGET, bar.nbytes)
        return _compared(found, home | there, read(source) - home)


def _memory(ram: Ram, iova: int, write: bool) -> set[Page]:
    """What the tables have to say of ``ram`` at ``iova``. Its pages are pinned: they stay where they are."""
    offsets = range(0, ram.nbytes, PAGE_NBYTES)
    return {Page(iova + at, physical_address(ram.address + at), True, write) for at in offsets}


def _compared(found: set[Page], wanted: set[Page], stale: set[Page]) -> Comparison:
    def told(pages: set[Page]) -> tuple[Page, ...]:
        return tuple(sorted(pages, key=lambda page: page.iova)[:8])

    return Comparison(len(found), told(wanted - found), told(found - wanted), told(stale))
