"""Stage 2 as the IOMMU itself has it: the page tables of a host function, from debugfs (dmaproof.vfio.page_tables).

They are the truth, where the kernel shows them (VT-d, CONFIG_INTEL_IOMMU_DEBUGFS): also of type1, whose map calls QEMU
does not trace.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dmaproof import inputs
from dmaproof.errors import UsageError
from dmaproof.guest.audit.table import Entry, Range, Table
from dmaproof.vfio.page_tables import Leaf, leaves

_MOST_NBYTES = 1 << 31


def read(path: str | Path) -> Table:
    """The table in the file ``path``, a copy of /sys/kernel/debug/iommu/intel/BDF/domain_translation_struct.

    Raises UsageError where it cannot be read, or no page is in it.
    """
    try:
        text = inputs.whole(path, _MOST_NBYTES).decode(errors="backslashreplace")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    found = of_dump(text)
    if not len(found):
        raise UsageError(
            f"{path} holds no page: is it a copy of /sys/kernel/debug/iommu/intel/BDF/domain_translation_struct?"
        )
    return found


def of_dump(text: str) -> Table:
    """The table of a dump: pages next to each other, with the same rights, as one entry."""
    table = Table()
    for entry in _runs(sorted(leaves(text), key=lambda leaf: leaf.iova)):
        table.add(entry)
    return table


def _runs(pages: Iterable[Leaf]) -> Iterable[Entry]:
    first, last, readonly = 0, -1, False
    for page in pages:
        if not page.read:  # what a device cannot read is of no use to a peer
            continue
        if page.iova != last + 1 or readonly is page.write:
            if last >= first:
                yield Entry(Range(first, last), readonly)
            first, readonly = page.iova, not page.write
        last = page.iova + page.nbytes - 1
    if last >= first:
        yield Entry(Range(first, last), readonly)
