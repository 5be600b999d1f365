"""Workloads: DMA lands where memory is mapped, and nowhere else: outside, beyond the end, after an unmap."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Literal

from dmaproof.endpoint.assigned.engine import HOME, TARGET, Engine, engine
from dmaproof.vfio.memory import PAGE_NBYTES, Ram
from dmaproof.vfio.space import Backend

Case = Literal["write-outside", "read-outside", "beyond-end", "after-unmap", "write-to-read-only"]
CASES: tuple[Case, ...] = ("write-outside", "read-outside", "beyond-end", "after-unmap", "write-to-read-only")
_NBYTES = 8
"""Few: AMD-Vi's emulator logs a fault for every four that are refused, and the kernel prints ten in five seconds."""


@dataclass(frozen=True, slots=True)
class Landed:
    """Whether memory holds what the engine wrote, and the engine what it read from memory."""

    wrote: bool
    read: bool


def dma_lands(bdf: str, backend: Backend) -> Landed:
    """edu ``bdf`` writes to and reads from two mapped pages, the write across their border."""
    with Ram(2 * PAGE_NBYTES) as ram, engine(bdf, backend) as one:
        one.space.map(ram.address, ram.nbytes, TARGET)
        sent, start = secrets.token_bytes(_NBYTES), PAGE_NBYTES - _NBYTES // 2
        one.write(TARGET + start, sent)
        wrote = bytes(ram.data[start : start + _NBYTES]) == sent
        ram.data[:_NBYTES] = other = secrets.token_bytes(_NBYTES)
        read = one.read(TARGET, _NBYTES) == other
        one.space.unmap(TARGET, ram.nbytes)
        return Landed(wrote, read)


@dataclass(frozen=True, slots=True)
class Missed:
    """A DMA of ``nbytes`` that must fault at ``address``. ``touched``: bytes of memory that it changed although they
    were not mapped for it, or that it brought back from there. ``reachable``: a DMA that was allowed did reach that
    memory: before, so that the IOMMU may have had it in its IOTLB, or afterwards. None where there is no such DMA."""

    address: int
    nbytes: int
    access: Literal["read", "write"]
    touched: int
    reachable: bool | None


def dma_misses(bdf: str, backend: Backend, case: Case) -> Missed:
    """edu ``bdf`` is told to go where nothing is mapped for it."""
    with Ram(2 * PAGE_NBYTES) as ram, engine(bdf, backend) as one:
        return _MISSES[case](one, ram)


def _write_outside(one: Engine, _ram: Ram) -> Missed:
    one.load(secrets.token_bytes(_NBYTES))
    before = bytes(one.ram.data)
    one.edu.to_memory(TARGET, _NBYTES)
    return Missed(TARGET, _NBYTES, "write", _differences(before, bytes(one.ram.data)), None)


def _read_outside(one: Engine, ram: Ram) -> Missed:
    """The memory is there, but mapped elsewhere."""
    ram.data[:_NBYTES] = there = secrets.token_bytes(_NBYTES)
    one.space.map(ram.address, PAGE_NBYTES, HOME + 4 * PAGE_NBYTES)
    got = one.read(TARGET, _NBYTES)
    return Missed(TARGET, _NBYTES, "read", _NBYTES if got == there else 0, None)


def _beyond_end(one: Engine, ram: Ram) -> Missed:
    """Only the first of two pages is mapped; the write begins in it."""
    one.space.map(ram.address, PAGE_NBYTES, TARGET)
    one.write(TARGET + PAGE_NBYTES - _NBYTES // 2, secrets.token_bytes(_NBYTES))
    behind = bytes(ram.data[PAGE_NBYTES:])
    return Missed(TARGET + PAGE_NBYTES, _NBYTES, "write", _differences(bytes(PAGE_NBYTES), behind), None)


def _after_unmap(one: Engine, ram: Ram) -> Missed:
    """The first write lands; a second one that does as well has used a translation that is no more."""
    one.space.map(ram.address, PAGE_NBYTES, TARGET)
    sent = secrets.token_bytes(_NBYTES)
    one.write(TARGET, sent)
    warm = bytes(ram.data[:_NBYTES]) == sent
    one.space.unmap(TARGET, PAGE_NBYTES)
    one.write(TARGET, secrets.token_bytes(_NBYTES))
    return Missed(TARGET, _NBYTES, "write", _differences(sent, bytes(ram.data[:_NBYTES])), warm)


def _write_to_read_only(one: Engine, ram: Ram) -> Missed:
    """The write comes first: by a translation that it has in its IOTLB from a read, QEMU's VT-d refuses a write without
    recording a fault (hw/i386/intel_iommu.c)."""
    one.space.map(ram.address, PAGE_NBYTES, TARGET, write=False)
    ram.data[:_NBYTES] = there = secrets.token_bytes(_NBYTES)
    one.write(TARGET, secrets.token_bytes(_NBYTES))
    touched = _differences(there, bytes(ram.data[:_NBYTES]))
    return Missed(TARGET, _NBYTES, "write", touched, one.read(TARGET, _NBYTES) == there)


_MISSES = {
    "write-outside": _write_outside,
    "read-outside": _read_outside,
    "beyond-end": _beyond_end,
    "after-unmap": _after_unmap,
    "write-to-read-only": _write_to_read_only,
}


def _differences(before: bytes, after: bytes) -> int:
    return sum(then != now for then, now in zip(before, after, strict=True))
