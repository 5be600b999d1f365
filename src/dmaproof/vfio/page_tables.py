"""The VT-d driver's page tables of one function, from debugfs (drivers/iommu/intel/debugfs.c).

A line holds a page frame number of IOVA space, then the entries met on the way down, the last of which maps it. In
first- and second-stage entries alike bit 0 lets a device read, bit 1 write (VT-d specification 4.1, 9.9 and 9.10).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dmaproof.errors import DmaproofError, Unsupported

PAGE_NBYTES = 4096
_FOLDER = Path("/sys/kernel/debug/iommu/intel")
_FILE = "domain_translation_struct"
_LINE = re.compile(r"0x([0-9a-f]+) \|((?:\t0x[0-9a-f]{16})+)")
_LEVELS = 5
_ADDRESS = (1 << 52) - PAGE_NBYTES
_READ, _WRITE = 1, 2
_INDEX_BITS = 9


@dataclass(frozen=True, slots=True)
class Page:
    """4 KiB of IOVA space that is mapped to ``physical``."""

    iova: int
    physical: int
    read: bool
    write: bool


@dataclass(frozen=True, slots=True)
class Leaf:
    """An entry that maps ``nbytes`` (4 KiB, 2 MiB, 1 GiB) of IOVA space to ``physical``."""

    iova: int
    nbytes: int
    physical: int
    read: bool
    write: bool


def leaves(text: str) -> Iterator[Leaf]:
    """Every entry of a dump, in its order."""
    for frame, words in _LINE.findall(text):
        entries = words.split()
        entry = int(entries[-1], 16)
        nbytes = PAGE_NBYTES << _INDEX_BITS * (_LEVELS - len(entries))
        base = entry & _ADDRESS & ~(nbytes - 1)
        yield Leaf(int(frame, 16) * PAGE_NBYTES, nbytes, base, bool(entry & _READ), bool(entry & _WRITE))


def pages(text: str) -> Iterator[Page]:
    """Every 4 KiB page of a dump. Larger pages come as the small ones that they are."""
    for leaf in leaves(text):
        for at in range(0, leaf.nbytes, PAGE_NBYTES):
            yield Page(leaf.iova + at, leaf.physical + at, leaf.read, leaf.write)


def read(bdf: str) -> set[Page]:
    """What ``bdf`` can reach now. Raises as ``dump``."""
    return set(pages(dump(bdf)))


def dump(bdf: str) -> str:
    """The page tables of ``bdf`` as the kernel prints them. Raises Unsupported where it does not, saying why."""
    path = _FOLDER / bdf / _FILE
    if not _FOLDER.parent.parent.joinpath("iommu").exists():
        raise Unsupported("debugfs shows no IOMMU: mount -t debugfs none /sys/kernel/debug; or CONFIG_IOMMU_DEBUGFS")
    if not path.exists():
        raise Unsupported(f"no {path}: this is no VT-d, or the kernel has no CONFIG_INTEL_IOMMU_DEBUGFS")
    try:
        return path.read_text(encoding="ascii")
    except OSError as error:
        raise DmaproofError(f"cannot read {path}: {error.strerror}") from None
