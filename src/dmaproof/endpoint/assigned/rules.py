"""Workloads: what an address space takes and refuses, and where it may be mapped at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dmaproof.endpoint.assigned.engine import TARGET
from dmaproof.errors import IoctlError
from dmaproof.vfio.bind import bound
from dmaproof.vfio.iommufd import IovaRange
from dmaproof.vfio.memory import PAGE_NBYTES, Ram
from dmaproof.vfio.space import Backend, Space, opened

_KERNEL_HALF = 0xFFFF_8000_0000_0000


@dataclass(frozen=True, slots=True)
class Answer:
    """``error`` is the errno's name, None where the kernel agreed; ``nbytes`` is what an unmap says it unmapped."""

    question: str
    error: str | None
    nbytes: int | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """``ranges``: the IOVAs that may be mapped; ``answers`` by question."""

    ranges: tuple[IovaRange, ...]
    answers: tuple[Answer, ...]

    def answer(self, question: str) -> Answer:
        return next(one for one in self.answers if one.question == question)


def map_rules(bdf: str, backend: Backend) -> Rules:
    """Mappings and unmappings of all kinds in an address space with ``bdf`` in it."""
    with Ram(4 * PAGE_NBYTES) as ram, bound((bdf,)), opened((bdf,), backend) as one:
        ranges = one.space.iova_ranges()
        return Rules(ranges, (*_maps(one.space, ram, ranges), *_unmaps(one.space, ram)))


def _maps(space: Space, ram: Ram, ranges: tuple[IovaRange, ...]) -> list[Answer]:
    here, size = ram.address, PAGE_NBYTES
    answers = [
        ask("map", lambda: space.map(here, size, TARGET)),
        ask("map what is mapped", lambda: space.map(here, size, TARGET)),
        ask("map across what is mapped", lambda: space.map(here, 2 * size, TARGET - size)),
        ask("map nothing", lambda: space.map(here, 0, TARGET + 4 * size)),
        ask("map half a page", lambda: space.map(here, size // 2, TARGET + 4 * size)),
        ask("map at half a page", lambda: space.map(here, size, TARGET + 4 * size + size // 2)),
        ask("map past the end of addresses", lambda: space.map(here, 2 * size, (1 << 64) - size)),
        ask("map memory that is not there", lambda: space.map(_KERNEL_HALF, size, TARGET + 4 * size)),
        ask("map without any access", lambda: space.map(here, size, TARGET + 4 * size, read=False, write=False)),
        ask("unmap", lambda: space.unmap(TARGET, size)),
    ]
    if ranges:
        last = ranges[-1].last
        answers.append(ask("map the last page", lambda: space.map(here, size, last + 1 - size)))
        answers.append(ask("unmap the last page", lambda: space.unmap(last + 1 - size, size)))
    if len(ranges) > 1:
        reserved = ranges[0].last + 1
        answers.append(ask("map a reserved page", lambda: space.map(here, size, reserved)))
    return answers


def _unmaps(space: Space, ram: Ram) -> list[Answer]:
    here, size = ram.address, PAGE_NBYTES
    space.map(here, 2 * size, TARGET)
    space.map(here + 2 * size, size, TARGET + 2 * size)
    return [
        ask("unmap part of a mapping", lambda: space.unmap(TARGET, size)),
        ask("unmap two mappings at once", lambda: space.unmap(TARGET, 3 * size)),
        ask("unmap what is not mapped", lambda: space.unmap(TARGET, size)),
    ]


def ask(question: str, asking: Callable[[], int]) -> Answer:
    """What comes of ``asking``; what it returns counts for an unmap only."""
    try:
        result = asking()
    except IoctlError as error:
        return Answer(question, error.name)
    return Answer(question, None, result if question.startswith("unmap") else None)
