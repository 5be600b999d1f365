"""A GPU touches managed memory: which pages fault, where UVM brings them, what traffic is left (uvm in the CUDA
programming guide: ReadMostly, PreferredLocation, AccessedBy)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from dmaproof.virtual.driver.eviction import evict, fitting
from dmaproof.virtual.driver.pages import CPU, CPU_BIT, PAGE, ManagedPages, Range, bit, numa, runs
from dmaproof.virtual.wire import HOST

if TYPE_CHECKING:
    from dmaproof.virtual.driver.access import Operation
    from dmaproof.virtual.driver.gpus import Device

Access = Literal["read", "write", "atomic"]
Flags = npt.NDArray[np.bool_]


def touch(
    operation: Operation,
    pages: ManagedPages,
    va: int,
    offset: int,
    nbytes: int,
    access: Access,
) -> None:
    """``operation``'s GPU reads or writes ``nbytes`` at ``offset`` of the allocation at ``va``."""
    if not nbytes:
        return
    touched = pages.pages(offset, nbytes)
    here = bit(operation.device.ordinal)
    missing = _missing(pages, touched, here, access)
    remote = _stays_with_the_cpu(pages, touched, here)
    for run in _arriving(operation, operation.device, touched, missing & ~remote):
        _fault(operation, pages, va, run, access, operation.device.bdf)
        copies = access == "read" and bool(pages.read_mostly[run.slice].all())
        pages.move(run, here, keep=copies)
    for run in runs(touched, missing & remote):
        if not _mapped(pages, run, here).all() or not pages.where[run.slice].all():
            _fault(operation, pages, va, run, access, HOST)
            pages.mapped[run.slice] |= np.uint64(here)  # from now on: no more faults
            pages.move(run, CPU_BIT, keep=True)
    _cost(operation, int((missing & remote).sum()), touched, va + offset, nbytes, access)


def _arriving(operation: Operation, device: Device, touched: Range, chosen: Flags) -> Iterator[Range]:
    """The stretches of ``touched`` that come to ``device``, one by one; before each what is in its way has gone."""
    for run in runs(touched, chosen):
        for part in fitting(device, run):
            for va, nbytes in evict(operation.driver, device, (part.end - part.first) * PAGE):
                operation.dma(device, device, None, nbytes, va)
            yield part


def _missing(pages: ManagedPages, touched: Range, here: int, access: str) -> Flags:
    where = pages.where[touched.slice]
    if access == "read":
        return np.asarray((where & np.uint64(here)) == 0)
    return np.asarray(where != np.uint64(here))  # a write also ends every copy elsewhere


def _stays_with_the_cpu(pages: ManagedPages, touched: Range, here: int) -> Flags:
    """Pages that the GPU reaches over the bus instead of taking them."""
    preferred = pages.preferred[touched.slice]
    where, advised = pages.where[touched.slice], (preferred == CPU) | (preferred <= numa(0))
    at_cpu = where == np.uint64(CPU_BIT)
    return np.asarray((at_cpu & (advised | _mapped(pages, touched, here))) | ((where == 0) & advised))


def _mapped(pages: ManagedPages, touched: Range, here: int) -> Flags:
    """Pages that the GPU reaches without a fault wherever they are: as advised, or since it once asked."""
    words = pages.accessed_by[touched.slice] | pages.mapped[touched.slice]
    return np.asarray((words & np.uint64(here)) != 0)


def _fault(
    operation: Operation,
    pages: ManagedPages,
    va: int,
    run: Range,
    access: Literal["read", "write", "atomic", "prefetch"],
    toward: str,
    device: Device | None = None,
) -> None:
    nbytes = min(run.end * PAGE, pages.nbytes) - run.first * PAGE
    operation.fault(device or operation.device, va + run.first * PAGE, nbytes, access, "managed", toward)


def _cost(operation: Operation, nremote: int, touched: Range, va: int, nbytes: int, access: str) -> None:
    npages = touched.end - touched.first
    if nremote < npages:
        operation.local(operation.device, nbytes * (npages - nremote) // npages, va)
    if nremote:
        source, target = (None, operation.device) if access == "read" else (operation.device, None)
        operation.dma(operation.device, source, target, nbytes * nremote // npages, va)


def prefetch(
    operation: Operation, pages: ManagedPages, va: int, touched: Range, target: Device | None, location: int
) -> None:
    """Bring ``touched`` to ``target`` (None: the host), where they are not there yet, and remember ``location``."""
    there = CPU_BIT if target is None else bit(target.ordinal)
    missing = (pages.where[touched.slice] & np.uint64(there)) == 0
    coming = runs(touched, missing) if target is None else _arriving(operation, target, touched, missing)
    for run in coming:
        device = target or _holder(operation, pages, run)
        _fault(operation, pages, va, run, "prefetch", HOST if target is None else target.bdf, device)
        pages.move(run, there, keep=bool(pages.read_mostly[run.slice].all()))
    pages.prefetched[touched.slice] = location


def _holder(operation: Operation, pages: ManagedPages, run: Range) -> Device:
    """The GPU whose pages go to the host; that of the stream for pages that are nowhere yet."""
    word = int(pages.where[run.first]) & ~CPU_BIT
    return operation.driver.devices[word.bit_length() - 2] if word else operation.device
