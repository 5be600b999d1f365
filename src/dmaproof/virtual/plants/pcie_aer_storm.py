"""The link of one GPU is marginal: of so many packets one arrives damaged, is reported, and is sent again."""

from __future__ import annotations

from dmaproof.rig.model import Node
from dmaproof.virtual.machine.link import Marginal
from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.plants.chance import Chance

ID = "pcie-aer-storm"
_LOSS = 0.2
_EVERY = (16, 64, 256)
_MIXES = (
    ("BadTLP", "BadTLP", "Timeout"),
    ("RxErr",),
    ("RxErr", "BadTLP", "BadDLLP"),
    ("BadDLLP", "Timeout"),
    ("BadTLP", "Timeout", "Rollover"),
)


def applies(node: Node) -> str | None:
    if node.role == "guest":
        return f"a host; {node.name} is a guest, whose ports are its hypervisor's: the real link's errors stay there"
    return None if _linked(node) else f"a GPU under a port, with a pcie link; {node.name} declares none"


def plant(machine: Machine, chance: Chance) -> None:
    gpus = [machine.gpus[bdf] for bdf in _linked(machine.node)]
    chance.pick(gpus, gpus[0]).link.marginal = Marginal(
        every=chance.pick(_EVERY, _EVERY[1]), loss=_LOSS, errors=chance.pick(_MIXES, _MIXES[0])
    )


def _linked(node: Node) -> list[str]:
    return [gpu.bdf for gpu in node.gpus if gpu.port is not None and gpu.pcie is not None]
