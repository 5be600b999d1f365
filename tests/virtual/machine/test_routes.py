"""Routes of the virtual rigs' peers, by the kernel's rule, from the files that their nodes show."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest

from dmaproof.pci import bar_conflicts, route
from dmaproof.rig import load
from dmaproof.virtual.power import provision


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("pcie-switch", "bus"),
        ("pcie-pair", "host-bridge"),
        ("pcie-pair-amd", "host-bridge"),  # any Zen
        ("smmu-pair", "unsupported"),  # no Arm server is on the kernel's list
        ("guest-pair", "unsupported"),  # nor is QEMU's q35 on an Intel host
    ],
)
def test_every_pair_of_a_healthy_rig(name: str, outcome: str, tmp_path: Path) -> None:
    rig = load.load(f"virtual:{name}")
    with provision(rig, tmp_path) as nodes:
        for node in rig.nodes:
            root = nodes[node.name].root
            topology = route.look(root)
            pairs = permutations((gpu.bdf for gpu in node.gpus), 2)
            assert {route.predict(topology, *pair).outcome for pair in pairs} == {outcome}
            assert bar_conflicts.of_sysfs(root) == ()
