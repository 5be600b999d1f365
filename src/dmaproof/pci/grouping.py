"""Which PCI functions Linux puts into one IOMMU group, by its own rule: pci_device_group of drivers/iommu/iommu.c.

Up from a function, each bridge that is not protected by ACS all the way to the root is taken into the group; functions
of one slot that are not isolated from each other share one. An upstream port with a single function counts as isolated
(pci_acs_enabled, drivers/pci/pci.c), so what hangs below two downstream ports of a switch without ACS gets two groups,
although such a switch routes between them. What the kernel knows of ports without the capability (drivers/pci/quirks.c)
is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping

from dmaproof.pci import tree
from dmaproof.pci.capability import Acs, Express, Missing
from dmaproof.pci.route import Topology

_NEEDED = ("SV", "RR", "CR", "UF")  # REQ_ACS_FLAGS
_MUST_HAVE = ("root-port", "downstream-port")
_ONLY_IF_SEVERAL = ("endpoint", "legacy-endpoint", "integrated-endpoint", "upstream-port")
_NEVER = ("pcie-to-pci-bridge", "pci-to-pcie-bridge", "event-collector")


def predict(topology: Topology) -> Mapping[str, frozenset[str]]:
    """The group of each function, itself included. Functions whose configuration space was not read, or that hang below
    such a bridge, are left out."""
    keys = {one.bdf: _key(topology, one.bdf) for one in topology.functions}
    known = {bdf: key for bdf, key in keys.items() if key is not None}
    return {bdf: frozenset(other for other, its in known.items() if its == key) for bdf, key in known.items()}


def without_acs(topology: Topology, bdf: str) -> tuple[str, ...]:
    """The ports above ``bdf`` that should have the capability and lack it: the kernel may know better of them."""
    return tuple(
        one
        for one in tree.upstream(topology.functions, bdf)
        if (space := topology.spaces.get(one)) is not None and space.acs == "absent" and _must_have(space.express)
    )


def _key(topology: Topology, bdf: str) -> str | None:
    """What all members of a group have in common: the function where the climb ends, or its slot."""
    end = bdf
    for bridge in tree.upstream(topology.functions, bdf):
        isolated = _isolated(topology, bridge)
        if isolated is None:
            return None
        end = end if isolated else bridge  # the topmost bridge that is not protected: those below are taken as well
    isolated = _isolated(topology, end)
    if isolated is None:
        return None
    return end if isolated or not _has_siblings(topology, end) else _slot(end)


def _isolated(topology: Topology, bdf: str) -> bool | None:
    """pci_acs_enabled for what a group needs; None where it cannot be known."""
    space = topology.spaces.get(bdf)
    if space is None or not space.complete or space.lost:
        return None
    if not isinstance(space.express, Express):
        return None if space.express == "unknown" else False
    port = space.express.port
    if port in _NEVER:
        return False
    if port in _MUST_HAVE or (port in _ONLY_IF_SEVERAL and _has_siblings(topology, bdf)):
        return isinstance(space.acs, Acs) and _protects(space.acs)
    return True


def _must_have(express: Express | Missing) -> bool:
    return isinstance(express, Express) and express.port in _MUST_HAVE


def _protects(acs: Acs) -> bool:
    """What a port cannot switch is as if it were on."""
    return all(bit in acs.control for bit in _NEEDED if bit in acs.capability)


def _has_siblings(topology: Topology, bdf: str) -> bool:
    return sum(_slot(one.bdf) == _slot(bdf) for one in topology.functions) > 1


def _slot(bdf: str) -> str:
    return bdf.rpartition(".")[0]
