"""Planted defects: each a cause in the machine's model, from which lost writes, hangs, counters and log lines follow.

A plant is a module with ``ID``, ``applies(node)`` (None, or why it makes no sense there) and ``plant(machine)``.
"""

from __future__ import annotations

from typing import Protocol, cast

from dmaproof.errors import UsageError
from dmaproof.nearest import did_you_mean
from dmaproof.rig.model import Node, Rig
from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.plants import ats_stage2_hole, gpu_lost, iommu_blocks_p2p_mailbox, unattributed_hang


class Plant(Protocol):
    """What a plant's module offers."""

    ID: str

    def applies(self, node: Node) -> str | None: ...

    def plant(self, machine: Machine) -> None: ...


_PLANTS = {
    module.ID: cast("Plant", module)
    for module in (ats_stage2_hole, gpu_lost, iommu_blocks_p2p_mailbox, unattributed_hang)
}


def ids() -> list[str]:
    """What ``--plant`` takes."""
    return sorted(_PLANTS)


def module(word: str) -> Plant:
    """The plant called ``word``. Raises UsageError with the nearest one."""
    if word not in _PLANTS:
        raise UsageError(f"unknown plant {word!r}: {did_you_mean(word, _PLANTS)}")
    return _PLANTS[word]


def by_node(rig: Rig, words: tuple[str, ...]) -> dict[str, list[str]]:
    """Which of ``words`` to plant on each node of ``rig``. Raises UsageError for one that fits none of them."""
    chosen: dict[str, list[str]] = {node.name: [] for node in rig.nodes}
    for word in dict.fromkeys(words):
        reasons = {node.name: module(word).applies(node) for node in rig.nodes}
        fitting = [name for name, reason in reasons.items() if reason is None]
        if not fitting:
            reason = next(iter(reasons.values()))
            raise UsageError(f"plant {word!r} needs {reason} (rig {rig.id})")
        for name in fitting:
            chosen[name].append(word)
    return chosen
