"""Huge pages for a guest, on the node that it is made on: asked of the kernel, and given back with all else.

A kernel gives as many as it has, which may be fewer (Documentation/admin-guide/mm/hugetlbpage.rst).
"""

from __future__ import annotations

from pathlib import Path

from dmaproof.errors import DmaproofError
from dmaproof.guest.memory import Pages
from dmaproof.vfio import journal
from dmaproof.vfio.bind import raised
from dmaproof.vfio.journal import FOLDER, Journal

SYS = Path("/sys")


def raised_to(
    pages: Pages, root: Path = SYS, journals: Path = FOLDER, ours: Path | None = None
) -> tuple[Path, int] | None:
    """The file with the number of pages, and what it has to be so that ``pages`` are free; nothing where they are.

    Those that a run has raised which still runs (its journal is in ``journals``, and not ``ours``) are its own, also
    while its QEMU has not taken them yet.
    """
    file = _folder(pages, root) / "nr_hugepages"
    theirs = sum(one.by for one in journal.raised_by_others(file, journals, ours))
    lacking = pages.count - max(0, _free(file.parent) - theirs)
    return (file, _number(file.parent, file.name) + lacking) if lacking > 0 else None


def reserve(ours: Journal, pages: Pages, root: Path = SYS) -> None:
    """Have ``pages`` free, by raising nr_hugepages where need be, until the entries of ``ours`` are put back.

    Raises DmaproofError saying how many there are, and the way out.
    """
    with journal.alone(ours.folder):  # two that look at once must not both find the same pages free
        if (change := raised_to(pages, root, ours.folder, ours.path)) is None:
            return
        raised(ours, *change)
    if (free := _free(change[0].parent)) < pages.count:
        where = "" if pages.numa_node is None else f" on NUMA node {pages.numa_node}"
        raise DmaproofError(
            f"guest.hugepage_nbytes = {pages.nbytes}: of the {pages.count} pages that the guest's memory takes, "
            f"the kernel has {free} free{where}: free some memory, lower qemu.memory_nbytes, or set them aside as it "
            f"boots (hugepagesz={pages.nbytes >> 10}K hugepages={pages.count})"
        )


def _folder(pages: Pages, root: Path) -> Path:
    per_node = root / f"devices/system/node/node{pages.numa_node}/hugepages"
    sizes = root / "kernel/mm/hugepages" if pages.numa_node is None else per_node
    folder = sizes / f"hugepages-{pages.nbytes >> 10}kB"
    if folder.is_dir():
        return folder
    has = sorted(int(one.name.split("-")[1].removesuffix("kB")) << 10 for one in sizes.glob("hugepages-*"))
    raise DmaproofError(
        f"guest.hugepage_nbytes = {pages.nbytes}: "
        + (f"pages here have {' or '.join(map(str, has))} bytes" if has else f"this system has no {sizes}")
    )


def _free(folder: Path) -> int:
    """Those that nobody has been promised. A NUMA node does not count promises."""
    promised = _number(folder, "resv_hugepages") if (folder / "resv_hugepages").exists() else 0
    return _number(folder, "free_hugepages") - promised


def _number(folder: Path, name: str) -> int:
    return int((folder / name).read_text(encoding="ascii"))
