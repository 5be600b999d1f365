"""Pages that the UVM driver moved because a GPU kept reaching for them where they were: access counters.

``/proc/driver/nvidia-uvm/gpus/GPU-<uuid>/access_counters`` exists where nvidia-uvm was loaded with
``uvm_enable_debug_procfs=1`` (kernel-open/nvidia-uvm/uvm_gpu.c, gpu_access_counters_print_common). Counters migrate
pages on ATS systems alone, from 256 accesses on (uvm_perf_access_counter_threshold).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_COUNTER = re.compile(r"^\s*num_pages_(?P<way>in|out)\s+(?P<pages>\d+)", re.MULTILINE)
_FOLDER = Path("proc/driver/nvidia-uvm/gpus")
MISSING = "UVM access counters: not readable (nvidia-uvm without uvm_enable_debug_procfs=1, or no such driver)"


@dataclass(frozen=True, slots=True)
class AccessCounters:
    """Pages of the kernel's size, since the driver was loaded."""

    pages_in: int
    pages_out: int


def parse(text: str) -> AccessCounters:
    """The sum over all of a GPU's buffers: one, or as many as the file has, each under a line of its own."""
    pages = {"in": 0, "out": 0}
    for match in _COUNTER.finditer(text):
        pages[match["way"]] += int(match["pages"])
    return AccessCounters(pages["in"], pages["out"])


def read(root: Path, uuid: str) -> AccessCounters | None:
    """Of the GPU ``uuid`` (``GPU-...``) of the node whose files are under ``root``; None where it shows none."""
    try:
        return parse((root / _FOLDER / uuid / "access_counters").read_text())
    except OSError:  # no such file, or root's alone
        return None
