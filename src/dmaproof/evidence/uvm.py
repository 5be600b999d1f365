"""The UVM driver's fault counters, twice: a livelock is counters that climb while no page moves.

``/proc/driver/nvidia-uvm/gpus/GPU-<uuid>/fault_stats`` exists where nvidia-uvm was loaded with
``uvm_enable_debug_procfs=1`` (kernel-open/nvidia-uvm/uvm_gpu.c, gpu_fault_stats_print_common).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dmaproof.evidence.evidence import Evidence

_COUNTER = re.compile(r"^\s*(?P<name>[a-z_]+)\s+(?P<value>\d+)(?: \(\d+ MB\))?$")
_FOLDER = Path("proc/driver/nvidia-uvm/gpus")
MISSING = "UVM fault counters: not readable (nvidia-uvm without uvm_enable_debug_procfs=1, or no such driver)"


@dataclass(frozen=True, slots=True)
class FaultStats:
    """Replayable faults of one GPU since the driver was loaded. Pages are of the kernel's page size."""

    replayable_faults: int
    duplicates: int
    replays: int
    pages_in: int
    pages_out: int


def parse(text: str) -> FaultStats:
    """The first, replayable half of a fault_stats file. A counter that is not there counts 0: formats grow."""
    counters: dict[str, int] = {}
    for line in text.splitlines():
        match = _COUNTER.match(line)
        if match is None:
            continue
        if match["name"] == "non_replayable_faults":
            break
        counters[match["name"]] = int(match["value"])
    return FaultStats(
        replayable_faults=counters.get("replayable_faults", 0),
        duplicates=counters.get("duplicates", 0),
        replays=counters.get("start", 0),
        pages_in=counters.get("num_pages_in", 0),
        pages_out=counters.get("num_pages_out", 0),
    )


def read(root: Path) -> dict[str, FaultStats]:
    """Fault counters by GPU folder name (``GPU-<uuid>``); empty where the driver does not show them.

    Beside each folder stands a link to it, by the driver's own number for the GPU: the folders are enough.
    """
    files = sorted((root / _FOLDER).glob("GPU-*/fault_stats"))
    return {file.parent.name: stats for file in files if (stats := _stats(file)) is not None}


def _stats(file: Path) -> FaultStats | None:
    try:
        return parse(file.read_text())
    except OSError:  # the GPU has just gone, or its counters are root's alone
        return None


def climbing(before: FaultStats, after: FaultStats) -> bool:
    """Whether faults or replays went on while no page moved."""
    busy = after.replayable_faults > before.replayable_faults or after.replays > before.replays
    return busy and (after.pages_in, after.pages_out) == (before.pages_in, before.pages_out)


def as_evidence(node: str, before: Mapping[str, FaultStats], after: Mapping[str, FaultStats]) -> list[Evidence]:
    """One Evidence a GPU, kind ``uvm-fault-stats``. data: gpu, climbing, and the steps of the counters."""
    found = []
    for gpu, first in before.items():
        second = after.get(gpu)
        if second is None:
            continue
        steps = {
            "faults": second.replayable_faults - first.replayable_faults,
            "duplicates": second.duplicates - first.duplicates,
            "replays": second.replays - first.replays,
            "pages_in": second.pages_in - first.pages_in,
            "pages_out": second.pages_out - first.pages_out,
        }
        told = ", ".join(f"{name} +{step}" for name, step in steps.items())
        found.append(
            Evidence(
                source="uvm",
                node=node,
                time_s=time.monotonic(),
                kind="uvm-fault-stats",
                text=f"{gpu}: between two readings: {told}",
                data={"gpu": gpu, "climbing": climbing(first, second), **steps},
            )
        )
    return found
