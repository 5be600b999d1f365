"""Lists of processors as the kernel writes them (Documentation/admin-guide/cputopology.rst: cpulist)."""

from __future__ import annotations

_MOST = 1 << 16
"""More processors than any kernel can have (CONFIG_NR_CPUS)."""


def parse(text: str) -> frozenset[int]:
    """``0-3,8`` as a set; what is no number is left out."""
    members: set[int] = set()
    for word in text.split(","):
        first, dash, last = word.strip().partition("-")
        if first.isdecimal() and (last.isdecimal() or not dash):
            members.update(range(int(first), min(int(last if dash else first), _MOST) + 1))
    return frozenset(members)
