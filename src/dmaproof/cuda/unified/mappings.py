"""Workloads: the process changes its mappings while a GPU reads them, or between two reads (HMM, ATS).

A GPU has translations of its own for what the process maps. Each change must end those that it makes wrong: one that is
left reads memory that is another's by now.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from dmaproof.cuda import kernels
from dmaproof.cuda.device import Device, device
from dmaproof.cuda.memory import Buffer, Words, pinned
from dmaproof.cuda.timing import stream_on
from dmaproof.cuda.unified import forked, regions
from dmaproof.cuda.unified.forked import Child
from dmaproof.cuda.unified.regions import Region
from dmaproof.cuda.unified.running import TOLD, await_passes, running
from dmaproof.cuda.unified.system import PAGE_NBYTES
from dmaproof.progress import note

Change = Literal["munmap", "protect-none", "move-away", "protect-read", "replace", "dontneed", "free", "fork"]
"""``move-away``: mremap(2) to another address. ``replace``: another mapping is moved over this one. ``dontneed`` and
``free``: madvise(2). ``fork``: and then the parent writes words that the child still has as they were."""
When = Literal["while", "between"]
FATAL: tuple[Change, ...] = ("munmap", "protect-none", "move-away")
"""After these a GPU finds nothing that it may read: its next access is an error."""
_OLD_SEED, _NEW_SEED, _THREADS, _FEW_PAGES = 51, 52, 256, 8
_MORE_PASSES = 3
"""Passes after a change that are waited for: of those the last at least has begun after it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the GPU read before and after: ``old`` words, ``new`` ones, ``zero``, ``old or zero`` by page, or ``other``.
    ``passes``: how often it has read all since it was started last. ``child_wrong``: how many words the forked child
    found that are not the old ones, None without one."""

    before: str
    after: str
    passes: int
    child_wrong: int | None = None


def change(gpu: str, what: Change, when: When, nbytes: int) -> Seen:
    """The process does ``what`` to memory ``while`` the GPU reads it, or ``between`` two times that it does.

    Raises CudaError where the GPU's access ends in an error, as it must after a change in ``FATAL``.
    """
    one = device(gpu)
    kernels.load_all(one)
    nbytes = min(nbytes, _FEW_PAGES * PAGE_NBYTES) if what == "free" else nbytes
    with ExitStack() as stack:
        region, spare = (stack.enter_context(regions.mapped(nbytes)) for _ in range(2))
        control, stream = stack.enter_context(pinned(one, 4096)), stack.enter_context(stream_on(one))
        old, new = (kernels.pattern(nbytes // 4, seed) for seed in (_OLD_SEED, _NEW_SEED))
        region.words[:], spare.words[:] = old, new
        reader, place = _Reader(one, region, control, stream), _Place(region, spare, old, new, stack)
        note("stage", text=f"{what} {when} the GPU's reads")
        before, after = _DO[when](reader, lambda: _CHANGES[what](place))
        sums = _sums(old, new)
        child_wrong = place.child.look().wrong_words if place.child else None
        return Seen(sums.get(before, "other"), sums.get(after, "other"), reader.passes, child_wrong)


@dataclass(slots=True)
class _Place:
    """What a change works on. ``child`` lives until ``stack`` ends."""

    region: Region
    spare: Region
    old: Words
    new: Words
    stack: ExitStack
    child: Child | None = field(default=None)


def _fork_then_write(place: _Place) -> None:
    place.child = place.stack.enter_context(forked.reader(place.region.words, place.old))
    place.region.words[:] = place.new


def _replace(place: _Place) -> None:
    regions.move(place.spare, onto=place.region)


_CHANGES: dict[Change, Callable[[_Place], None]] = {
    "munmap": lambda place: regions.unmap(place.region),
    "protect-none": lambda place: regions.protect(place.region, regions.NONE),
    "protect-read": lambda place: regions.protect(place.region, regions.READ),
    "move-away": lambda place: regions.move(place.region, onto=place.spare),
    "replace": _replace,
    "dontneed": lambda place: regions.advise(place.region, regions.DONTNEED),
    "free": lambda place: regions.advise(place.region, regions.FREE),
    "fork": _fork_then_write,
}


@dataclass(frozen=True, slots=True)
class _Reader:
    """A kernel that sums ``region`` up over and over."""

    gpu: Device
    region: Region
    control: Buffer
    stream: Any

    @property
    def passes(self) -> int:
        return int(self.control.cpu[TOLD // 4])

    def while_reading(self, apply: Callable[[], None]) -> tuple[int, int]:
        """The sums before ``apply`` and after it."""
        words, told = (self.region.address, self.region.nbytes // 4), self.control.address + TOLD
        args = (*words, self.control.address, told)
        with running("dmaproof_read_until", self.gpu, self.stream, self.control, *args, threads=_THREADS):
            await_passes(self.control, self.stream, 1)
            before = self._sum()
            apply()
            await_passes(self.control, self.stream, self.passes + _MORE_PASSES)
        return before, self._sum()

    def between_reads(self, apply: Callable[[], None]) -> tuple[int, int]:
        before, _ = self.while_reading(_nothing)
        apply()
        _, after = self.while_reading(_nothing)
        return before, after

    def _sum(self) -> int:
        return int(self.control.cpu[TOLD // 4 + 1])


def _nothing() -> None:
    return


_DO: dict[When, Callable[[_Reader, Callable[[], None]], tuple[int, int]]] = {
    "while": _Reader.while_reading,
    "between": _Reader.between_reads,
}


def _sums(old: Words, new: Words) -> dict[int, str]:
    """What a sum of all words says of them. Of few pages also the sums where some have become zero."""
    npages = old.nbytes // PAGE_NBYTES
    by_page = old.reshape(npages, -1).sum(axis=1, dtype=np.uint32) if npages <= _FEW_PAGES else old[:0]
    some = (sum(map(int, chosen)) & 0xFFFFFFFF for chosen in _subsets(by_page))
    known = dict.fromkeys(some, "old or zero")
    return known | {int(old.sum(dtype=np.uint32)): "old", int(new.sum(dtype=np.uint32)): "new", 0: "zero"}


def _subsets(values: Words) -> itertools.chain[tuple[Any, ...]]:
    return itertools.chain.from_iterable(itertools.combinations(values, count) for count in range(len(values) + 1))
