"""Workloads: what UVM makes of advice (cuMemAdvise)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dmaproof.cuda.device import device
from dmaproof.cuda.driver import cu
from dmaproof.cuda.integrity import View, fill, verify
from dmaproof.cuda.memory import Buffer, shared
from dmaproof.cuda.unified.prefetch import HOST, location
from dmaproof.cuda.unified.where import Pages, Told, pages, told
from dmaproof.cuda.unified.words import cpu_fill, cpu_view, require_concurrent
from dmaproof.progress import note

Advice = Literal["READ_MOSTLY", "PREFERRED_LOCATION", "ACCESSED_BY"]


def advise(buffer: Buffer, advice: Advice, place: str = HOST, unset: bool = False) -> None:
    """CU_MEM_ADVISE_SET_<advice> (or UNSET) for all of ``buffer``; ``place`` as ``prefetch.location`` takes it."""
    known = getattr(cu.CUmem_advise, f"CU_MEM_ADVISE_{'UNSET' if unset else 'SET'}_{advice}")
    cu.cuMemAdvise(buffer.address, buffer.nbytes, known, location(place))


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What each GPU found of the CPU's first words, then of those that the CPU wrote over the copies; what the CPU
    found after that GPU which is the last had written over all copies. ``told`` and ``told_after``: before and after
    the advice was taken back."""

    first: tuple[View, ...]
    second: tuple[View, ...]
    third: View
    told: Told
    told_after: Told


def read_mostly(gpus: list[str], nbytes: int) -> Duplicates:
    """Each GPU reads, and so has a copy of its own; the CPU writes, which ends all copies; each GPU reads again, and
    the last one writes."""
    ones = [device(gpu) for gpu in gpus]
    for one in ones:
        require_concurrent(one)
    with shared(ones[0], "managed", nbytes) as buffer:
        advise(buffer, "READ_MOSTLY")
        as_advised = told(buffer)
        cpu_fill(buffer, 31)
        note("stage", text="GPUs read: a copy each")
        first = tuple(verify(one, buffer, 31) for one in ones)
        cpu_fill(buffer, 32)
        note("stage", text="the CPU has written over the copies")
        second = tuple(verify(one, buffer, 32) for one in ones)
        fill(ones[-1], buffer, 33)
        third = cpu_view(buffer, 33)
        advise(buffer, "READ_MOSTLY", unset=True)
        return Duplicates(first, second, third, as_advised, told(buffer))


@dataclass(frozen=True, slots=True)
class Stayed:
    """What the GPU found of pages that are to stay with the CPU, what the CPU found of the GPU's words, and where the
    pages were after the GPU had used them."""

    gpu: View
    cpu: View
    told: Told
    where: Pages


def stays_with_host(gpu: str, advice: Literal["PREFERRED_LOCATION", "ACCESSED_BY"], nbytes: int) -> Stayed:
    """The CPU writes pages that it is advised to keep (the host is their preferred location, or ``gpu`` is to have them
    mapped), the GPU reads and writes them over the bus, and the CPU looks."""
    one = device(gpu)
    require_concurrent(one)
    with shared(one, "managed", nbytes) as buffer:
        advise(buffer, advice, HOST if advice == "PREFERRED_LOCATION" else gpu)
        cpu_fill(buffer, 41)
        note("stage", text=f"the GPU uses the CPU's pages under {advice}")
        seen = verify(one, buffer, 41)
        fill(one, buffer, 42)
        where = pages(one, buffer.address, buffer.nbytes)
        return Stayed(seen, cpu_view(buffer, 42), told(buffer), where)
