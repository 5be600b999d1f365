"""The way from a function up to its root bus."""

from __future__ import annotations

from collections.abc import Sequence

from dmaproof.pci.sysfs import PciFunction


def upstream(functions: Sequence[PciFunction], bdf: str) -> tuple[str, ...]:
    """The bridges above ``bdf``, nearest first, the root port last; empty on a root bus or for an unknown ``bdf``."""
    parents = {function.bdf: function.parent for function in functions}
    path: list[str] = []
    above = parents.get(bdf)
    while above is not None and above not in path and above != bdf:
        path.append(above)
        above = parents.get(above)
    return tuple(path)
