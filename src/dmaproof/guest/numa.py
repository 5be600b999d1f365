"""The processors of a NUMA node: what is started there stays there, with all its threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dmaproof import cpulist
from dmaproof.errors import DmaproofError

NODES, _LISTS = Path("/sys/devices/system/node"), "node[0-9]*/cpulist"


@contextmanager
def on(numa_node: int | None, nodes: Path = NODES) -> Iterator[None]:
    """This thread, and what it starts meanwhile, is on the processors of ``numa_node`` (None: where it may be anyway).

    Raises DmaproofError where it has none.
    """
    if numa_node is None:
        yield
        return
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, processors(numa_node, nodes))
    except OSError as error:
        raise DmaproofError(f"guest.numa_node = {numa_node}: its processors are not for us: {error.strerror}") from None
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def processors(numa_node: int, nodes: Path = NODES) -> frozenset[int]:
    """Raises DmaproofError naming the nodes that have some, where ``numa_node`` has none: a GPU's memory is one too."""
    has = {int(one.parent.name[4:]): cpulist.parse(one.read_text(encoding="ascii")) for one in nodes.glob(_LISTS)}
    if found := has.get(numa_node):
        return found
    others = ", ".join(str(one) for one, cpus in sorted(has.items()) if cpus) or "none"
    raise DmaproofError(f"guest.numa_node = {numa_node}: no such node has processors here; those with some: {others}")
