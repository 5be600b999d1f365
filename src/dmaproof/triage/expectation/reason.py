"""Why a figure is low: what the machine says of the links, routes, clocks and processors that it depends on.

The first that applies is named: a link that is short explains whatever else is found; who is throttled or far away
is slow on top of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import GpuHealth, LinkState, NvlinkState, RouteSeen
from dmaproof.rig.hardware import Gpu
from dmaproof.rig.model import HOST, Node
from dmaproof.triage.expectation.figure import Figure, Judgement, Reason, Trained

THROTTLES = ("sw-power-cap", "hw-slowdown", "sw-thermal", "hw-thermal", "hw-power-brake")
"""Reasons of NVML for a lower clock that are no choice of the user's (nvml.h, nvmlClocksEventReason*)."""


F = TypeVar("F")
OfGpu = TypeVar("OfGpu", LinkState, NvlinkState, GpuHealth)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the machine says now. ``evidence`` are facts of its GPUs; ``cpu_nodes`` the NUMA nodes whose processors the
    run may use (None: not known)."""

    evidence: Sequence[Evidence] = ()
    cpu_nodes: frozenset[int] | None = None


@dataclass(slots=True)
class _Search:
    """What was found, and what it was looked for in."""

    found: list[tuple[Reason, str]] = field(default_factory=list)
    looked_at: list[str] = field(default_factory=list)


def explained(node: Node, judgement: Judgement, seen: Seen) -> Judgement:
    """``judgement`` with the reason for a figure that is low; one that has a reason keeps it."""
    if judgement.standing != "low" or judgement.reason:
        return judgement
    figure, search = judgement.figure, _Search()
    gpus = [node.gpu[name] for name in figure.gpus if name in node.gpu]
    _links(node, figure, gpus, seen, search)
    _routes(gpus, figure, seen, search)
    _clocks(gpus, seen, search)
    _cpus(gpus, figure, seen, search)
    reason, why = search.found[0] if search.found else ("unexplained", "")
    looked = tuple(dict.fromkeys((*judgement.looked_at, *search.looked_at)))
    text = f"{judgement.text}: {why}" if why else f"{judgement.text}: unexplained by {'; '.join(looked) or 'nothing'}"
    return replace(judgement, reason=reason, text=text, looked_at=looked)


def _links(node: Node, figure: Figure, gpus: Sequence[Gpu], seen: Seen, search: _Search) -> None:
    for gpu in gpus:
        for link in _pcie_of(figure, gpu, seen):
            text = f"the PCIe link of {gpu.name} runs at {link}"
            search.looked_at.append(text)
            if _is_short(link, gpu):
                search.found.append(("degraded-link", text))
    most = _most_nvlinks(node, seen)
    for state in _facts(seen, gpus, NvlinkState):
        name = next(gpu.name for gpu in gpus if gpu.bdf == state.bdf)
        wanted = max(state.declared or 0, most.get(_product(node, state.bdf), 0))
        text = f"{state.active} of {wanted} NVLinks of {name} are up"
        search.looked_at.append(text)
        if state.active < wanted:
            search.found.append(("degraded-link", text))


def _pcie_of(figure: Figure, gpu: Gpu, seen: Seen) -> list[Trained]:
    """As it was right after the figure was taken, or else as it is now."""
    if gpu.name in figure.trained:
        return [figure.trained[gpu.name]]
    return [
        Trained(one.generation, one.width, one.offered_generation, one.offered_width)
        for one in _facts(seen, [gpu], LinkState)
    ]


def _is_short(link: Trained, gpu: Gpu) -> bool:
    """Now that the figure is known to be low, a low generation counts too."""
    declared = gpu.pcie
    wanted_width = declared.width if declared is not None else link.offered_width
    wanted = declared.generation if declared is not None else link.offered_generation
    return _below(link.width, wanted_width) or _below(link.generation, wanted)


def _below(seen: int | None, wanted: int | None) -> bool:
    return seen is not None and wanted is not None and 0 < seen < wanted


def _most_nvlinks(node: Node, seen: Seen) -> Mapping[str, int]:
    """By product, the most NVLinks that are up on any GPU: how many are wired no driver knows."""
    most: dict[str, int] = {}
    for state in _facts(seen, node.gpus, NvlinkState):
        product = _product(node, state.bdf)
        most[product] = max(most.get(product, 0), state.active)
    return most


def _product(node: Node, bdf: str) -> str:
    return next((gpu.product or "" for gpu in node.gpus if gpu.bdf == bdf), "")


def _routes(gpus: Sequence[Gpu], figure: Figure, seen: Seen, search: _Search) -> None:
    """Ports that redirect: a pair without a common switch goes over the host bridge anyway."""
    if len(gpus) != 2 or figure.is_staged:
        return
    ends = {gpu.bdf for gpu in gpus}
    for route in _of(seen, RouteSeen):
        if {route.client, route.provider} != ends:
            continue
        by = f" by {route.decided_by} (ACS {' '.join(route.acs)})" if route.acs else ""
        text = f"the kernel's rule sends {route.client} to {route.provider} over {route.outcome}{by}"
        search.looked_at.append(text)
        if route.outcome == "host-bridge" and route.acs:
            search.found.append(("redirected-route", text))


def _clocks(gpus: Sequence[Gpu], seen: Seen, search: _Search) -> None:
    for health in _facts(seen, gpus, GpuHealth):
        name = next(gpu.name for gpu in gpus if gpu.bdf == health.bdf)
        reasons = health.clocks_event_reasons
        told = "unknown" if reasons is None else ", ".join(reasons) or "none"
        text = f"clocks event reasons of {name}: {told}"
        search.looked_at.append(text)
        if reasons is not None and set(reasons) & set(THROTTLES):
            search.found.append(("throttling", text))


def _cpus(gpus: Sequence[Gpu], figure: Figure, seen: Seen, search: _Search) -> None:
    """Pinned memory lies where the process may run: far from a GPU of a NUMA node that is not among those."""
    if HOST not in figure.ends and not figure.is_staged:
        return
    for gpu in gpus:
        if gpu.numa_node is None or seen.cpu_nodes is None:
            search.looked_at.append(f"NUMA node of {gpu.name} or of this run's processors: unknown")
            continue
        nodes = ", ".join(map(str, sorted(seen.cpu_nodes)))
        text = f"this run may use processors of NUMA node {nodes}; {gpu.name} is on node {gpu.numa_node}"
        search.looked_at.append(text)
        if gpu.numa_node not in seen.cpu_nodes:
            search.found.append(("wrong-numa-node", f"{text}: pinned memory is remote"))


def _of(seen: Seen, kind: type[F]) -> Iterator[F]:
    return (one.fact for one in seen.evidence if isinstance(one.fact, kind))


def _facts(seen: Seen, gpus: Sequence[Gpu], kind: type[OfGpu]) -> Iterator[OfGpu]:
    """Of ``gpus``; what is said twice is said once."""
    here = {gpu.bdf for gpu in gpus}
    return iter({one.bdf: one for one in _of(seen, kind) if one.bdf in here}.values())
