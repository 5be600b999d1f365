"""Tests that take endpoints, for whole-run tests: what each should come to is in tests/run/test_engines.py.

Not collected by name: a run is given this file.
"""

from __future__ import annotations

import pytest

from dmaproof.endpoint.probe import probe
from fixtures.ends import Engine, Peers
from fixtures.worker import Bench


def test_any(endpoint: Engine) -> None:
    assert endpoint.node.endpoint[endpoint.endpoint.name] is endpoint.endpoint


def test_any_two(peers: Peers) -> None:
    assert peers.source is not peers.target


@pytest.mark.requires(kind="edu")
def test_edu(endpoint: Engine) -> None:
    assert endpoint.endpoint.kind == "edu"


@pytest.mark.requires(kind="edu")
def test_two_edu(peers: Peers) -> None:
    assert peers.path is not None
    assert peers.path.peer == (peers.source.name == "edu0")


@pytest.mark.requires(kind="edu", targets=("nvme", "igb"))
def test_edu_to_others(peers: Peers) -> None:
    assert (peers.source.kind, peers.target.kind) == ("edu", "nvme")


@pytest.mark.requires(kind="iommu-testdev")
def test_none(endpoint: Engine) -> None:
    raise AssertionError(f"there is none, but this got {endpoint}")


@pytest.mark.requires(kind="nvme")
def test_only_one(peers: Peers) -> None:
    raise AssertionError(f"there is one, but this got {peers}")


@pytest.mark.requires(kind="nvme")
def test_work(endpoint: Engine, worker: Bench) -> None:
    worker.run(probe, bdf=endpoint.endpoint.bdf, kind=endpoint.endpoint.kind)
