"""A virtual machine shows what a real one would: discovering it must find the very rig that it was built from."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmaproof.evidence import nvml_query
from dmaproof.evidence.nvml_query import NvmlState
from dmaproof.rig.discover import discover
from dmaproof.rig.load import load, profile_ids
from dmaproof.virtual.power import provision

LARGE = "virtual:nvl72"
"""NVML is asked three questions of each of its 5112 pairs, and answers them in Python here."""
WORDS = [word for word in profile_ids() if word.startswith("virtual:") and word != LARGE]


@pytest.mark.parametrize("word", WORDS)
def test_discovery_finds_what_was_declared(word: str, tmp_path: Path) -> None:
    rig = load(word)
    with provision(rig, tmp_path / "machines") as nodes:
        for name, node in nodes.items():
            found, notes = discover(node.root, node.env, 30.0)
            assert isinstance(nvml_query.query(node.env, 30.0), NvmlState)
            declared, seen = rig.node[name], found.node["host"]
            assert seen.gpu == declared.gpu
            assert seen.switch == declared.switch
            assert (seen.role, seen.addressing, seen.iommu) == (declared.role, declared.addressing, declared.iommu)
            assert not any("NVML" in note for note in notes)
            for source in (*seen.gpu, "host"):
                for target in (*seen.gpu, "host"):
                    wanted, got = declared.path_between(source, target), seen.path_between(source, target)
                    if wanted is None:
                        continue
                    assert got is not None
                    assert got.peer == wanted.peer
                    assert got.kind in (wanted.kind, "unknown")
                    assert (got.bandwidth_GBps, got.latency_ns) == (None, None)
