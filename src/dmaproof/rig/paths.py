"""The paths of a discovered node, from what NVML says of each pair of GPUs. No bandwidth is claimed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from dmaproof.evidence.nvml_query import NvmlGpu, NvmlState
from dmaproof.rig.model import HOST, PathKind

_ANY = "gpu*"


@dataclass(frozen=True, slots=True)
class Way:
    """What is known of a directed pair: ``peer`` is that NVML's P2P status is OK for reads and for writes."""

    kind: PathKind
    peer: bool


def between(names: Mapping[str, str], nvml: NvmlState | None, *, nvswitch: bool) -> list[dict[str, Any]]:
    """The path tables of a node whose GPUs' BDFs are ``names``' keys; the commonest way is said once, by glob, last.

    ``nvswitch``: the bus has NVSwitches, so that GPUs whose NVLinks are up reach every other by them.
    """
    if not names:
        return []
    ways = {
        (names[a], names[b]): _way(nvml, a, b, everyone=nvswitch or len(names) == 2) for a, b in permutations(names, 2)
    }
    host = _to_host(names, nvml)
    return [
        {"source": _ANY, "target": _ANY, "kind": "local"},
        *_said_shortly(ways),
        {"source": HOST, "target": _ANY, "kind": host},
        {"source": _ANY, "target": HOST, "kind": host},
    ]


def _said_shortly(ways: Mapping[tuple[str, str], Way]) -> list[dict[str, Any]]:
    """Exceptions first: the first path that matches is the one that counts."""
    if not ways:
        return []
    ((usual, _),) = Counter(ways.values()).most_common(1)
    special = [_table(*ends, way) for ends, way in ways.items() if way != usual]
    return [*special, _table(_ANY, _ANY, usual)]


def _table(source: str, target: str, way: Way) -> dict[str, Any]:
    return {"source": source, "target": target, "kind": way.kind, "peer": way.peer}


def _way(nvml: NvmlState | None, source: str, target: str, *, everyone: bool) -> Way:
    """NVLinks are known by GPU, not by pair: which of three GPUs or more are linked is unknown without NVSwitch."""
    ends = (nvml.gpu(source), nvml.gpu(target)) if nvml is not None else (None, None)
    if nvml is None or ends[0] is None or ends[1] is None:
        return Way("unknown", peer=False)
    at = ends[0].index, ends[1].index
    peer = all(matrix[at[0]][at[1]] == "ok" for matrix in (nvml.p2p_read, nvml.p2p_write))
    links = [end.nvlinks_active for end in ends if end is not None]
    if 0 in links:
        return Way("pcie" if nvml.common_ancestor[at[0]][at[1]] is not None else "unknown", peer)
    return Way("nvlink" if peer and everyone and None not in links else "unknown", peer)


def _to_host(names: Mapping[str, str], nvml: NvmlState | None) -> PathKind:
    """``c2c`` where GPUs use the CPU's page tables, or their memory is a NUMA node: only coherent links do that."""
    seen = [one for bdf in names if nvml is not None and (one := nvml.gpu(bdf)) is not None]
    if len(seen) != len(names):
        return "unknown"
    return "c2c" if all(_is_coherent(one) for one in seen) else "pcie"


def _is_coherent(gpu: NvmlGpu) -> bool:
    return gpu.addressing == "ats" or gpu.numa_node is not None
