"""Some NVLinks of a GPU went down before the run, and one that is still up sends much of its traffic twice."""

from __future__ import annotations

import math

from dmaproof.rig.model import Node
from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.plants.chance import Chance
from dmaproof.virtual.plants.gpus import has_nvlink_peers, one, why_none

ID = "nvlink-degraded"
_LEAST_SHARE = 0.3
"""Fewer links down would not show in a kernel's copies, which are granted a quarter of the rate."""
_HOPPER = 9


def applies(node: Node) -> str | None:
    return why_none(node, has_nvlink_peers)


def plant(machine: Machine, chance: Chance) -> None:
    gpu = one(machine, chance, has_nvlink_peers)
    total = gpu.rig.nvlinks or 0
    most = max(total // 2, 1)
    count = chance.pick(range(min(math.ceil(total * _LEAST_SHARE), most), most + 1), most)
    first = chance.pick(range(total), 0)
    down = sorted((first + step) % total for step in range(count))
    gpu.nvlinks.retrain(down)
    gpu.nvlinks.marginal = {(first + count) % total}
    if int((gpu.rig.compute_capability or "0").partition(".")[0]) >= _HOPPER:  # older GPUs say nothing of it
        for link in down:
            machine.nvrm.nvlink_nonfatal(gpu, link)
