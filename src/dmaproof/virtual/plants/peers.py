"""Which GPUs of a node reach each other over PCIe, by which way; and why a plant of that way makes no sense."""

from __future__ import annotations

from itertools import permutations

from dmaproof.rig.hardware import Gpu
from dmaproof.rig.model import Node
from dmaproof.virtual.machine import acs
from dmaproof.virtual.machine.fault_reports import families
from dmaproof.virtual.plants.chance import Chance

Pairs = frozenset[tuple[str, str]]
"""(requester, peer) by BDF."""


def over_pcie(node: Node) -> list[tuple[Gpu, Gpu]]:
    """Ordered pairs of GPUs that are peers over PCIe."""
    return [
        (one, other)
        for one, other in permutations(node.gpus, 2)
        if (path := node.path_between(one.name, other.name)) is not None and path.kind == "pcie" and path.peer
    ]


def over_root(node: Node) -> list[tuple[Gpu, Gpu]]:
    """Those of them whose traffic crosses the root complex, and its IOMMU."""
    return [(one, other) for one, other in over_pcie(node) if not acs.goes_straight(node, one, other)]


def straight(node: Node) -> list[tuple[Gpu, Gpu]]:
    """Those of them that a switch joins."""
    return [(one, other) for one, other in over_pcie(node) if acs.goes_straight(node, one, other)]


def why_no_peers(node: Node) -> str | None:
    """None, or what ``node`` lacks for peers over PCIe."""
    return None if over_pcie(node) else f"two GPUs that are PCIe peers; {node.name} declares no such path"


def why_none_over_root(node: Node) -> str | None:
    """None, or what ``node`` lacks for peers across the root complex."""
    if over_root(node):
        return None
    direct = f"PCIe peers across the root complex; on {node.name} a switch hands their traffic straight on"
    return why_no_peers(node) or direct


def why_untranslated(node: Node) -> str | None:
    """None, or what ``node`` lacks for peers whose traffic an IOMMU translates and tells of."""
    return why_no_faults(node) or why_none_over_root(node)


def why_no_faults(node: Node) -> str | None:
    """None, or what ``node`` lacks for an IOMMU that translates and tells of what it refuses."""
    if node.iommu.family in families() and node.iommu.domain == "translated":
        return None
    known, found = " | ".join(f"'{one}'" for one in families()), f"{node.iommu.family!r}, {node.iommu.domain!r}"
    return f"a node with iommu = {{ family = {known}, domain = 'translated' }}; {node.name} has {found}"


def some(pairs: list[tuple[Gpu, Gpu]], chance: Chance) -> Pairs:
    """All of ``pairs``, or by chance those that begin, or those that end, at one GPU."""
    named = [(one.bdf, other.bdf) for one, other in pairs]
    everything = frozenset(named)
    ends = [(side, bdf) for side in (0, 1) for bdf in sorted({pair[side] for pair in named})]
    return chance.pick([frozenset(pair for pair in named if pair[side] == bdf) for side, bdf in ends], everything)
