"""The class of a figure's way through the machine: figures of one class are comparable."""

from __future__ import annotations

from dataclasses import dataclass

from dmaproof.rig.hardware import Gpu
from dmaproof.rig.model import HOST, Node, PathKind
from dmaproof.triage.expectation.figure import Figure


@dataclass(frozen=True, slots=True)
class Place:
    """``kind`` of path, and ``where`` its ends lie to each other; ``declared`` is what the rig declares of such a path
    (rate, latency): paths that are declared to differ are not of one class. ``numa_node`` is that of the one GPU of a
    copy to or from the host: which memory is near differs with it."""

    kind: PathKind
    where: str = ""
    declared: tuple[float | None, float | None] = (None, None)
    numa_node: int | None = None

    @property
    def text(self) -> str:
        """For people and for baselines: without what only this machine has."""
        return f"{self.kind}, {self.where}" if self.where else self.kind


def of(node: Node, figure: Figure) -> Place | None:
    """None for a figure whose ends are not two places that ``node`` has."""
    gpus = [node.gpu[name] for name in figure.gpus if name in node.gpu]
    if not gpus or len(gpus) != len(figure.gpus):
        return None
    path = node.path_between(figure.source, figure.target)
    declared = (path.bandwidth_GBps, path.latency_ns) if path is not None else (None, None)
    if HOST in figure.ends:
        where = "from the host" if figure.source == HOST else "to the host"
        return Place(path.kind if path is not None else "unknown", where, declared, gpus[0].numa_node)
    if len(gpus) == 1:
        return Place("local", "", declared)
    if figure.is_staged:
        return Place(_to_host(node, gpus), f"through the host, {_apart(node, gpus)}")
    kind = path.kind if path is not None else "unknown"
    return Place(kind, _apart(node, gpus) if kind in ("pcie", "unknown") else "", declared)


def _to_host(node: Node, gpus: list[Gpu]) -> PathKind:
    path = node.path_between(gpus[0].name, HOST)
    return path.kind if path is not None else "unknown"


def _apart(node: Node, gpus: list[Gpu]) -> str:
    one, other = gpus
    above = node.switch_above(one)
    if above is not None and above == node.switch_above(other):
        return "one switch"
    nodes = {one.numa_node, other.numa_node}
    if None in nodes:
        return "NUMA nodes unknown"
    return "one NUMA node" if len(nodes) == 1 else "across NUMA nodes"
