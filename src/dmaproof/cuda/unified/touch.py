"""Workloads: who touches memory first, and who after that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dmaproof.cuda.device import device
from dmaproof.cuda.integrity import View, fill, verify
from dmaproof.cuda.unified.system import Kind, memory
from dmaproof.cuda.unified.where import Pages, pages
from dmaproof.cuda.unified.words import cpu_fill, cpu_view, increment
from dmaproof.progress import note


@dataclass(frozen=True, slots=True)
class Touch:
    """What the second party found of what the first wrote, and what the CPU found after the GPU had changed it last.
    ``after_gpu``: where the pages were when a GPU had touched them last."""

    second: View
    first: View
    after_gpu: Pages


def first_touch(gpu: str, kind: Kind, nbytes: int, first: Literal["cpu", "gpu"], seed: int = 11) -> Touch:
    """``first`` writes fresh memory, the other side checks it. Then the GPU adds one to each word and the CPU looks."""
    one = device(gpu)
    with memory(one, kind, nbytes) as buffer:
        if first == "cpu":
            cpu_fill(buffer, seed)
            note("stage", text="CPU wrote, GPU reads")
            second = verify(one, buffer, seed)
        else:
            note("stage", text="GPU writes first")
            fill(one, buffer, seed)
            second = cpu_view(buffer, seed)
        note("stage", text="GPU writes memory that the CPU has touched")
        increment(one, buffer)
        where = pages(one, buffer.address, buffer.nbytes)
        return Touch(second, cpu_view(buffer, seed, added=1), where)


@dataclass(frozen=True, slots=True)
class Passed:
    """What the second GPU found of what the first wrote, the first of what the second wrote, and then the CPU."""

    there: View
    back: View
    cpu: View


def pass_between(first: str, second: str, kind: Kind, nbytes: int) -> Passed:
    """GPU ``first`` writes fresh memory, GPU ``second`` reads it locally and writes it anew, the first reads that, and
    so does the CPU in the end. Neither GPU has mapped the other's memory: pages move, or are read where they are."""
    one, other = device(first), device(second)
    with memory(one, kind, nbytes) as buffer:
        fill(one, buffer, 21)
        note("stage", text=f"{second} reads what {first} wrote")
        there = verify(other, buffer, 21)
        fill(other, buffer, 22)
        note("stage", text=f"{first} reads what {second} wrote")
        return Passed(there, verify(one, buffer, 22), cpu_view(buffer, 22))
