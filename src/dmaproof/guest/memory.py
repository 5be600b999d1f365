"""The memory of what QEMU makes: its back ends, and what the node that a guest is made on needs for them. Pure.

Without a claim about it, memory is QEMU's own affair. Huge pages are all taken as QEMU starts (prealloc): it says so at
once where they are not there, and otherwise the first access to one that is not would kill it (SIGBUS). VFIO pins all
of them anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dmaproof.rig.hardware import Guest, Qemu
from dmaproof.rig.lab import MIB
from dmaproof.rig.model import Node

_RAM = "ram"
_PAGE_NBYTES = 4096


@dataclass(frozen=True, slots=True)
class Pages:
    """``count`` huge pages of ``nbytes`` each, on NUMA node ``numa_node`` (None: any)."""

    nbytes: int
    count: int
    numa_node: int | None


def pages(node: Node) -> Pages | None:
    """The huge pages that guest ``node`` is made of; None where it is made of others."""
    if node.guest is None or node.guest.hugepage_nbytes is None:
        return None
    page_nbytes = node.guest.hugepage_nbytes
    return Pages(page_nbytes, node.made_by.memory_nbytes // page_nbytes, node.guest.numa_node)


def npages(node: Node) -> int:
    """How many pages the IOMMU may have to know ``node``'s memory by."""
    page_nbytes = (node.guest.hugepage_nbytes if node.guest is not None else None) or _PAGE_NBYTES
    return node.made_by.memory_nbytes // page_nbytes


def options(node: Node, qemu: Qemu) -> Iterator[str]:
    """QEMU's options for memory and, where functions are on NUMA nodes, for these, with processors on each."""
    numa_nodes = node.numa_nodes
    placed = _placed(node.guest)
    yield from ("-m", f"{qemu.memory_nbytes // MIB}M")
    if numa_nodes > 1:
        unit = max((node.guest.hugepage_nbytes if node.guest else None) or MIB, MIB)
        for number, nbytes in enumerate(spread(qemu.memory_nbytes, numa_nodes, unit)):
            yield from ("-object", _backend(f"numa{number}", nbytes, placed))
            cpus = [f"cpus={cpu}" for cpu in range(qemu.cpus) if cpu * numa_nodes // qemu.cpus == number]
            yield from ("-numa", ",".join(["node", f"nodeid={number}", *cpus, f"memdev=numa{number}"]))
    elif placed:
        yield from ("-object", _backend(_RAM, qemu.memory_nbytes, placed), "-machine", f"memory-backend={_RAM}")


def spread(nbytes: int, parts: int, unit: int) -> list[int]:
    """``nbytes`` in ``parts``, whole ``unit`` each, the first getting what does not divide."""
    share = nbytes // unit // parts * unit
    return [nbytes - share * (parts - 1), *[share] * (parts - 1)]


def _backend(name: str, nbytes: int, placed: tuple[str, ...]) -> str:
    return ",".join(["memory-backend-memfd", f"id={name}", f"size={nbytes // MIB}M", "share=on", *placed])


def _placed(guest: Guest | None) -> tuple[str, ...]:
    if guest is None:
        return ()
    huge, numa_node = guest.hugepage_nbytes, guest.numa_node
    return (
        *(("hugetlb=on", f"hugetlbsize={huge}", "prealloc=on") if huge is not None else ()),
        *((f"host-nodes={numa_node}", "policy=bind") if numa_node is not None else ()),
    )
