"""Figures as a run on a profile takes them."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

from dmaproof.rig import load
from dmaproof.rig.model import Node
from dmaproof.triage.expectation.figure import Figure, Trained


def node(profile: str = "virtual:hgx-h100") -> Node:
    return load.load(profile).first


def figure(source: str, target: str, value: float, **more: object) -> Figure:
    """A copy's bandwidth, three samples."""
    base = Figure(
        test=f"suites/p2p/test_bandwidth.py::test_peer_copy_reaches_link_rate[host-{source}-{target}-ce]",
        node="host", name="bandwidth_GBps", unit="GB/s", value=value, samples=(value * 0.998, value, value * 1.001),
        source=source, target=target, engine="ce", peer=True, direction="one", nbytes=64 << 20,
        method="16 x 64 MiB, device events",
    )  # fmt: skip
    return replace(base, **more)  # type: ignore[arg-type]


def host_copy(gpu: str, value: float, trained: Trained | None = None, **more: object) -> Figure:
    links = {gpu: trained} if trained is not None else {}
    test = f"suites/p2p/test_bandwidth.py::test_host_copy_reaches_link_rate[host-{gpu}-h2d-ce]"
    return figure("host", gpu, value, test=test, peer=None, trained=links, **more)


def matrix(node: Node, value: float = 397.0) -> list[Figure]:
    """One figure for each ordered pair, alike but for what a healthy machine scatters (0.5 %)."""
    pairs = list(permutations(node.gpu, 2))
    return [figure(a, b, value * (1 + 0.005 * ((7 * at) % 11 - 5) / 5)) for at, (a, b) in enumerate(pairs)]
