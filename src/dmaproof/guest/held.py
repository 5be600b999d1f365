"""What the IOMMU itself holds for the functions of a guest, on the node that it is made on: the truth behind QEMU's
account of its maps, where the kernel shows it (dmaproof.vfio.page_tables).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dmaproof.errors import DmaproofError
from dmaproof.guest.audit import tables
from dmaproof.guest.audit.table import Entry, Table
from dmaproof.vfio.page_tables import dump


def holdings(bdfs: list[str]) -> tuple[tuple[Entry, ...], ...]:
    """A workload: what each of ``bdfs`` reaches now, of those whose tables the kernel shows."""
    return tuple(_held(bdfs))


def _held(bdfs: Iterable[str]) -> Iterator[tuple[Entry, ...]]:
    for bdf in bdfs:
        try:
            yield tuple(tables.of_dump(dump(bdf)))
        except DmaproofError:  # an IOMMU, or a kernel, that has no such file: QEMU's trace is what there is
            continue


def as_table(entries: Iterable[Entry]) -> Table:
    """For an audit."""
    table = Table()
    for one in entries:
        table.add(one)
    return table
