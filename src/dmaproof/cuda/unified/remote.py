"""Workload: a GPU reaches for pages of the CPU's again and again, which access counters are to notice (ATS)."""

from __future__ import annotations

from dataclasses import dataclass

from dmaproof.cuda.device import device
from dmaproof.cuda.integrity import View, verify
from dmaproof.cuda.unified.system import memory
from dmaproof.cuda.unified.where import Pages, pages
from dmaproof.cuda.unified.words import cpu_fill
from dmaproof.progress import note

_SEED = 95


@dataclass(frozen=True, slots=True)
class Reached:
    """Where the pages were before the GPU's reads and after; ``found``: what it found in the last of them."""

    before: Pages
    after: Pages
    found: View


def reach_often(gpu: str, nbytes: int, times: int) -> Reached:
    """The CPU writes ``nbytes`` of its own memory, and the GPU reads all of it ``times`` times."""
    one = device(gpu)
    with memory(one, "mmap", nbytes) as buffer:
        cpu_fill(buffer, _SEED)
        before = pages(one, buffer.address, nbytes)
        note("stage", text=f"the GPU reads {nbytes} bytes of the CPU's {times} times")
        found = verify(one, buffer, _SEED)
        for _ in range(times - 1):
            found = verify(one, buffer, _SEED)
        return Reached(before, pages(one, buffer.address, nbytes), found)
