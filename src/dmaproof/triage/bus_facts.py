"""What a machine's bus says of its GPUs, as facts: links, BARs, routes, configuration space, errors since boot.

For a saved machine (an archive) as for a live one: only files under its root are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import permutations
from pathlib import Path

from dmaproof.evidence import counters
from dmaproof.evidence.evidence import Evidence
from dmaproof.evidence.fact import BarConflict, CounterStep, LinkState, RouteSeen
from dmaproof.evidence.fact_text import told
from dmaproof.pci import bar_conflicts, config, route, sysfs, tree
from dmaproof.pci.sysfs import PciFunction

SOURCE = "pci"
MANY_SINCE_BOOT = 1000
"""Correctable errors since boot that are no longer the few that any link has in months."""


def facts(root: Path, node: str, gpus: Sequence[str]) -> tuple[Evidence, ...]:
    """Everything that the bus of the machine under ``root`` says of ``gpus`` that a signature may look at."""
    functions = {one.bdf: one for one in sysfs.functions(root)}
    here = [bdf for bdf in gpus if bdf in functions]
    states = [state for bdf in here if (state := link_state(functions, bdf)) is not None]
    return (
        *(_evidence(node, "link-state", told(one), one) for one in states),
        *(_evidence(node, "bar-conflict", told(one), one) for one in conflicts(root, here)),
        *(_evidence(node, "route", told(one), one) for one in routes(root, here)),
        *(_evidence(node, "counter-step", counters.told(one), one) for one in _errors(root, functions, here)),
        *_config_space(root, node, gpus),
    )


def link_state(functions: Mapping[str, PciFunction], bdf: str) -> LinkState | None:
    """The link of ``bdf`` to the port above it; None without one. Offered is what both ends can do."""
    gpu = functions.get(bdf)
    if gpu is None or gpu.link is None:
        return None
    port = functions.get(gpu.parent or "")
    ends = [one.link for one in (gpu, port) if one is not None and one.link is not None]
    return LinkState(
        bdf=bdf,
        port=gpu.parent,
        generation=gpu.link.current_generation,
        width=gpu.link.current_width,
        offered_generation=_least(end.max_generation for end in ends),
        offered_width=_least(end.max_width for end in ends),
    )


def _least(values: Iterable[int | None]) -> int | None:
    return min((value for value in values if value is not None), default=None)


def conflicts(root: Path, gpus: Sequence[str]) -> tuple[BarConflict, ...]:
    """BARs of ``gpus`` where DMA cannot reach them."""
    return tuple(BarConflict(**asdict(one)) for one in bar_conflicts.of_sysfs(root, gpus))


def routes(root: Path, gpus: Sequence[str]) -> tuple[RouteSeen, ...]:
    """Both directions of every two of ``gpus``, by the kernel's own rule."""
    topology = route.look(root)
    found = (route.predict(topology, provider=there, client=here) for here, there in permutations(gpus, 2))
    return tuple(
        RouteSeen(
            provider=one.provider,
            client=one.client,
            outcome=one.outcome,
            distance=one.distance,
            decided_by=one.decided_by,
            acs=one.acs,
        )
        for one in found
    )


def _errors(root: Path, functions: Mapping[str, PciFunction], gpus: Sequence[str]) -> Iterator[CounterStep]:
    """Counters that a device has at all began at 0 when it was found."""
    ports = {bdf: tree.upstream(list(functions.values()), bdf)[:1] for bdf in gpus}
    read = counters.read_aer(root, [end for bdf in gpus for end in (bdf, *ports[bdf])])
    for one in counters.steps(dict.fromkeys(read, 0), read):
        if one.counter != "aer-correctable" or one.step >= MANY_SINCE_BOOT:
            yield one


def _config_space(root: Path, node: str, gpus: Sequence[str]) -> Iterator[Evidence]:
    for bdf in gpus:
        state = config.state(root, bdf)
        if state == "lost":
            text = f"{bdf}: configuration space reads all ones: the device does not answer"
            yield _evidence(node, "config-space", text, None, bdf=bdf, state=state)
        elif state == "unreadable" or (state == "present" and _is_short(root, bdf)):
            yield _evidence(
                node, "config-space", f"{bdf}: configuration space unread", None, bdf=bdf, state="unreadable"
            )


def _is_short(root: Path, bdf: str) -> bool:
    """Only the header, as without CAP_SYS_ADMIN: ACS, ATS and AER are unknown."""
    return len(config.read(root, bdf) or b"") <= config.HEADER_NBYTES


def _evidence(
    node: str, kind: str, text: str, fact: LinkState | BarConflict | RouteSeen | CounterStep | None, **data: str
) -> Evidence:
    return Evidence(source=SOURCE, node=node, time_s=0.0, kind=kind, text=text, fact=fact, data=data)
