"""Rates of paths for which a rig claims none: a model needs some, as hardware has some whatever a rig file says."""

from __future__ import annotations

from collections.abc import Mapping

from dmaproof.rig.model import Node, Path, PathKind, Rig

USUAL: Mapping[PathKind, tuple[float, float]] = {
    "nvlink": (397.0, 826.0),
    "pcie": (12.0, 1300.0),
    "c2c": (285.0, 800.0),
    "local": (330.0, 620.0),
}
"""GB/s and nanoseconds: H100's NVLinks, PCIe generation 3 x16, GH200's C2C, the memory of an RTX A6000."""


def with_rates(rig: Rig) -> Rig:
    """``rig`` as it is modelled: every path of a known kind has a rate and a latency."""
    nodes = {name: node.model_copy(update={"path": tuple(map(_rated, node.path))}) for name, node in rig.node.items()}
    return rig.model_copy(update={"node": dict[str, Node](nodes)})


def _rated(path: Path) -> Path:
    if path.kind not in USUAL:
        return path
    bandwidth_GBps, latency_ns = USUAL[path.kind]  # noqa: N806 - the unit's own case
    return path.model_copy(
        update={
            "bandwidth_GBps": path.bandwidth_GBps or bandwidth_GBps,
            "latency_ns": path.latency_ns or latency_ns,
        }
    )
