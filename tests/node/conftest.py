from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dmaproof.node.ladder import Bounds
from dmaproof.node.node import Node
from dmaproof.node.worker import Worker

QUICK = Bounds(sample_gap_s=0.2, capture_s=0.5, kill_s=0.5)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node with lock files of its own."""
    (tmp_path / "root/run/lock").mkdir(parents=True)
    return Node("test", root=tmp_path / "root")


@pytest.fixture
def worker(node: Node, tmp_path: Path) -> Iterator[Worker]:
    with Worker(node, tmp_path / "work", run_id="ours", bounds=QUICK) as worker:
        yield worker
