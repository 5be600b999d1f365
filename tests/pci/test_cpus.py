"""Which NUMA nodes processors belong to."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmaproof.pci import cpus


@pytest.fixture
def two_nodes(tmp_path: Path) -> Path:
    for name, listed in (("node0", "0-3,8"), ("node1", "4-7,9-11")):
        folder = tmp_path / cpus.NODES / name
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(f"{listed}\n")
    (tmp_path / cpus.NODES / "possible").write_text("0-1\n")
    return tmp_path


def test_the_nodes_of_processors(two_nodes: Path) -> None:
    assert cpus.numa_nodes(two_nodes, {8}) == {0}
    assert cpus.numa_nodes(two_nodes, {3, 4}) == {0, 1}
    assert cpus.numa_nodes(two_nodes, {99}) == frozenset()


def test_a_kernel_without_numa_says_nothing(tmp_path: Path) -> None:
    assert cpus.numa_nodes(tmp_path, {0}) is None
