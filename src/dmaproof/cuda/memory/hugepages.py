"""Pages of the kernel's pool of huge pages (Documentation/admin-guide/mm/hugetlbpage.rst)."""

from __future__ import annotations

import mmap
from pathlib import Path

from dmaproof.errors import Unsupported

_MAP_HUGETLB = 0x40000  # include/uapi/asm-generic/mman.h, also x86 and arm64; Python's mmap has no name for it


def mapped(nbytes: int, *, shared: bool = False) -> mmap.mmap:
    """As many whole huge pages, of the size that MAP_HUGETLB takes by itself, as hold ``nbytes``. The kernel sets them
    aside at once, so that none is missing later. Raises Unsupported where too few are free."""
    size, free = _pool()
    if not size:
        raise Unsupported("/proc/meminfo names no Hugepagesize: this kernel has no huge pages to give")
    wanted = -(-nbytes // size)
    flags = mmap.MAP_ANONYMOUS | (mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE) | _MAP_HUGETLB
    try:
        return mmap.mmap(-1, wanted * size, flags)
    except OSError as error:
        raise Unsupported(
            f"{free} huge pages of {size >> 10} KiB are free, {nbytes} bytes need {wanted} ({error.strerror}): "
            f"write {wanted} or more to /proc/sys/vm/nr_hugepages"
        ) from error


def _pool() -> tuple[int, int]:
    """Bytes of a huge page of the default size, and how many are free and not promised (/proc/meminfo)."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines() if ":" in line)
    size_kib, free, promised = (
        int(fields.get(name, "0").split()[0]) for name in ("Hugepagesize", "HugePages_Free", "HugePages_Rsvd")
    )
    return size_kib << 10, free - promised
