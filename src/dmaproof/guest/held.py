"""What the IOMMU itself holds for the functions of a guest, on the node that it is made on: the truth behind QEMU's
account of its maps, where the kernel shows it (dmaproof.vfio.page_tables).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dmaproof.errors import DmaproofError
from dmaproof.guest.audit import tables
from dmaproof.guest.audit.table import Entry, Range, Table
from dmaproof.vfio.page_tables import dump


@dataclass(frozen=True, slots=True)
class Mapped:
    """IOVAs from ``first`` to ``last`` that a function reaches."""

    first: int
    last: int
    readonly: bool


@dataclass(frozen=True, slots=True)
class Held:
    """The stage 2 of host function ``bdf``; ``why`` says why it is not known, where it is not."""

    bdf: str
    mapped: tuple[Mapped, ...]
    why: str = ""


@dataclass(frozen=True, slots=True)
class Holdings:
    of: tuple[Held, ...]


def holdings(bdfs: list[str]) -> Holdings:
    """A workload: what each of ``bdfs`` reaches now."""
    return Holdings(tuple(map(_held, bdfs)))


def _held(bdf: str) -> Held:
    try:
        table = tables.of_dump(dump(bdf))
    except DmaproofError as error:
        return Held(bdf, (), str(error))
    return Held(bdf, tuple(Mapped(one.range.first, one.range.last, bool(one.readonly)) for one in table))


def as_tables(found: Iterable[Held]) -> tuple[Table, ...]:
    """For an audit: those that are known. All functions of one guest share an address space: one is as good as all."""
    known = []
    for one in found:
        if not one.why:
            table = Table()
            for part in one.mapped:
                table.add(Entry(Range(part.first, part.last), part.readonly))
            known.append(table)
    return tuple(known)
