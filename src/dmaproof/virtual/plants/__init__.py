"""Planted defects: each a cause in the machine's model, from which lost writes, hangs, counters and log lines follow.

A plant is a module with ``ID``, ``applies(node)`` (None, or why it makes no sense there) and
``plant(machine, chance)``. ``--plant`` takes ``ID``, or ``ID@SEED`` for another GPU, pair or moment than the usual one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

from dmaproof.errors import UsageError
from dmaproof.nearest import did_you_mean
from dmaproof.rig.model import Node, Rig
from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.plants import (
    acs_redirects_p2p,
    application_fault,
    ats_setup_failed,
    ats_stage2_hole,
    bar_unmappable,
    bystander,
    dpc_containment,
    driver_stuck,
    ecc_contained,
    ecc_uncorrectable,
    gpu_lost,
    gpu_recovery_required,
    gsp_timeout,
    hmm_shared_atomics,
    iommu_blocks_memory,
    iommu_blocks_p2p_mailbox,
    iommu_blocks_peer_bar,
    kernel_crash,
    nvlink_degraded,
    nvlink_fatal,
    p2p_slower_than_host,
    pcie_aer_storm,
    pcie_link_degraded,
    peer_mirror,
    peer_writes_dropped,
    row_remap_pending,
    unattributed_hang,
    uvm_service_stuck,
    uvm_thrashing,
)
from dmaproof.virtual.plants.chance import Chance


class Plant(Protocol):
    """What a plant's module offers."""

    ID: str

    def applies(self, node: Node) -> str | None: ...

    def plant(self, machine: Machine, chance: Chance) -> None: ...


_PLANTS = {
    module.ID: cast("Plant", module)
    for module in (
        acs_redirects_p2p,
        application_fault,
        ats_setup_failed,
        ats_stage2_hole,
        bar_unmappable,
        bystander,
        dpc_containment,
        driver_stuck,
        ecc_contained,
        ecc_uncorrectable,
        gpu_lost,
        gpu_recovery_required,
        gsp_timeout,
        hmm_shared_atomics,
        iommu_blocks_memory,
        iommu_blocks_p2p_mailbox,
        iommu_blocks_peer_bar,
        kernel_crash,
        nvlink_degraded,
        nvlink_fatal,
        p2p_slower_than_host,
        pcie_aer_storm,
        pcie_link_degraded,
        peer_mirror,
        peer_writes_dropped,
        row_remap_pending,
        unattributed_hang,
        uvm_service_stuck,
        uvm_thrashing,
    )
}


def ids() -> list[str]:
    """What ``--plant`` takes."""
    return sorted(_PLANTS)


@dataclass(frozen=True, slots=True)
class Word:
    """One word of ``--plant``."""

    id: str
    seed: int | None


def parse(word: str) -> Word:
    """``ID`` or ``ID@SEED``. Raises UsageError with the nearest plant, or for a seed that is no number."""
    name, at, seed = word.partition("@")
    if name not in _PLANTS:
        raise UsageError(f"unknown plant {name!r}: {did_you_mean(name, _PLANTS)}")
    if at and not (seed.isascii() and seed.isdecimal()):
        raise UsageError(f"plant {word!r}: a seed is a number, as in {name}@7")
    return Word(name, int(seed) if at else None)


def plant(word: str, machine: Machine) -> None:
    """Plant what ``word`` says in ``machine``."""
    parsed = parse(word)
    _PLANTS[parsed.id].plant(machine, Chance(parsed.seed))


def by_node(rig: Rig, words: tuple[str, ...]) -> dict[str, list[str]]:
    """Which of ``words`` to plant on each node of ``rig``. Raises UsageError for one that fits none of them."""
    chosen: dict[str, list[str]] = {node.name: [] for node in rig.nodes}
    for word in dict.fromkeys(words):
        module = _PLANTS[parse(word).id]
        reasons = {node.name: module.applies(node) for node in rig.nodes}
        fitting = [name for name, reason in reasons.items() if reason is None]
        if not fitting:
            reason = next(iter(reasons.values()))
            raise UsageError(f"plant {word!r} needs {reason} (rig {rig.id})")
        for name in fitting:
            chosen[name].append(word)
    return chosen
