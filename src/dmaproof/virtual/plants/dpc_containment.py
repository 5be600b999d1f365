"""A fatal error on the link of one GPU: the port above contains it, which takes the link down for good."""

from __future__ import annotations

from dmaproof.rig.model import Node
from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.machine.topology import functions
from dmaproof.virtual.plants.chance import Chance

ID = "dpc-containment"
_ERRORS = ("DLP", "FCP", "RxOF", "MalfTLP")
_TRANSFERS = (0, 1, 2)


def applies(node: Node) -> str | None:
    return None if _contained(node) else f"a GPU under a port that contains errors (DPC); {node.name} has none"


def plant(machine: Machine, chance: Chance) -> None:
    gpus = [machine.gpus[bdf] for bdf in _contained(machine.node)]
    link = chance.pick(gpus, gpus[-1]).link
    link.fatal = chance.pick(_ERRORS, _ERRORS[0])
    link.transfers_left = chance.pick(_TRANSFERS, 0)


def _contained(node: Node) -> list[str]:
    ports = {one.bdf for one in functions(node) if one.has_dpc}
    return [gpu.bdf for gpu in node.gpus if gpu.port in ports]
