"""The kernel was booted without the parameter that keeps ACS redirect off a switch's ports, or without some of them in
it: peer traffic climbs to the root complex and back."""

from __future__ import annotations

from collections.abc import Collection

from dmaproof.rig.model import Node
from dmaproof.virtual.machine import acs
from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.machine.products import SWITCH_PORT
from dmaproof.virtual.plants.chance import Chance
from dmaproof.virtual.plants.peers import straight, why_no_peers

ID = "acs-redirects-p2p"


def applies(node: Node) -> str | None:
    if not acs.has_iommu(node):
        return why_no_peers(node) or f"an IOMMU, for whose sake the kernel turns ACS on; {node.name} has none"
    if not straight(node):
        return why_no_peers(node) or f"PCIe peers that a switch joins; {node.name} declares no such switch"
    return None


def plant(machine: Machine, chance: Chance) -> None:
    ports = sorted({gpu.port for pair in straight(machine.node) for gpu in pair if gpu.port is not None})
    forgotten = chance.pick([*([port] for port in ports), ports], ports)
    parameters = acs.redirect_on(machine.node.parameters, _named(machine.node, forgotten))
    machine.node = machine.node.model_copy(update={"parameters": parameters})


def _named(node: Node, ports: Collection[str]) -> set[str]:
    """The words that name ``ports`` on the command line."""
    return {word for word in acs.redirect_off(node) if any(acs.means(word, port, SWITCH_PORT) for port in ports)}
