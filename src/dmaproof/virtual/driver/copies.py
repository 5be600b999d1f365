"""Copies by the copy engines: between which places, by whose engine, over which transfers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dmaproof.virtual.driver.access import Operation, settle
from dmaproof.virtual.driver.address_space import Allocation
from dmaproof.virtual.driver.boxes import Box
from dmaproof.virtual.driver.chunks import DeviceMemory, Memory, copy
from dmaproof.virtual.driver.driver import Driver
from dmaproof.virtual.driver.errors import DriverError, require
from dmaproof.virtual.driver.gpus import Context, Device
from dmaproof.virtual.driver.graphs import NodeType, Task
from dmaproof.virtual.driver.host import SystemMemory, readable
from dmaproof.virtual.driver.pages import PAGE, ManagedPages, bit
from dmaproof.virtual.driver.rights import may
from dmaproof.virtual.driver.streams import Run, Stream
from dmaproof.virtual.driver.views import Nowhere
from dmaproof.virtual.wire import DmaOutcome

STAGED_SHARE = 0.75
"""What a copy staged through host memory keeps of the slower half's rate: the halves take turns at a ring of small
buffers. Measured on H100: 37 to 53 GB/s staged, where one half alone runs at 55 (p2pBandwidthLatencyTest, P2P off).
"""


@dataclass(frozen=True, slots=True)
class End:
    """One end of a copy: ``nbytes`` from ``va`` on. ``found`` is None for memory that CUDA did not hand out."""

    va: int
    nbytes: int
    found: Allocation | None

    @property
    def offset(self) -> int:
        return self.va - self.found.va if self.found else 0

    @property
    def memory(self) -> Memory:
        return self.found.memory if self.found else SystemMemory(self.va)

    def holder(self, driver: Driver) -> Device | None:
        """The GPU that holds the memory; None for the host. Managed memory is where its first page is."""
        if self.found is None or self.found.kind in ("pinned", "registered"):
            return None
        if isinstance(self.found.memory, ManagedPages):
            word = int(self.found.memory.where[self.offset // PAGE])
            return driver.devices[word.bit_length() - 2] if word > 1 else None
        return driver.devices[self.found.gpu]


def end_of_copy(driver: Driver, va: int, nbytes: int) -> End:
    """What ``va`` names, checked when the copy is asked for. Raises DriverError INVALID_VALUE."""
    found = driver.space.find(va, nbytes)
    if found is None:
        require(not driver.space.is_device_address(va) and readable(va, nbytes))
    else:
        require(va + nbytes <= found.end and _usable(found))
    return End(va, nbytes, found)


def _usable(found: Allocation) -> bool:
    """Mapped memory that nobody was given access to is none yet. That of graphs comes to be when they run."""
    return found.by == "graph" or found.access is None or any(found.access.values())


def check_rights(asking: Context, found: Allocation | None, access: Literal["read", "write"]) -> None:
    """A GPU's pool is no part of copies and fills that are asked for where a GPU without rights to it is current,
    whichever the stream's is (cuda-python, cuda_core/tests/test_memory_peer_access.py). INVALID_VALUE."""
    if found is not None and found.by == "pool" and found.kind == "device":
        require(may(asking, found, access))


def queue_copy(driver: Driver, stream: Stream, target_va: int, source_va: int, box: Box) -> None:
    """Queue a copy of ``box`` between any two addresses on ``stream``."""
    if not box.nbytes:
        return
    assert isinstance(stream.context, Context)  # noqa: S101
    if stream.capture is not None:
        driver.submit(stream, copy_task(driver, stream.context, target_va, source_va, box))
        return
    target, source = _ends_of(driver, driver.current or stream.context, target_va, source_va, box)
    memory = source.memory
    if source.found is None and not stream.idle:
        # Pageable memory is staged before the call returns: the program may change or free it then.
        nbytes = box.extent_nbytes(box.source)
        staged = DeviceMemory(nbytes)
        copy(staged, 0, memory, 0, nbytes)
        memory = staged
    driver.queue(stream, _run(driver, stream.context, target, source, memory, box))
    if target.found is None:
        driver.synchronize(stream)  # a copy into pageable memory returns when it is done


def _ends_of(driver: Driver, context: Context, target_va: int, source_va: int, box: Box) -> tuple[End, End]:
    target = end_of_copy(driver, target_va, box.extent_nbytes(box.target))
    source = end_of_copy(driver, source_va, box.extent_nbytes(box.source))
    check_rights(context, target.found, "write")
    check_rights(context, source.found, "read")
    return target, source


def copy_task(  # noqa: PLR0913, RUF100
    driver: Driver, context: Context, target_va: int, source_va: int, box: Box, parameters: object = None
) -> Task:
    """A copy by ``context``'s engines that a graph does again and again: what the addresses name is looked at each
    time, because memory may have come and gone. Raises DriverError INVALID_VALUE."""
    _ends_of(driver, context, target_va, source_va, box)

    def run(ready_ns: float, queued_ns: float) -> float:
        target = _end_now(driver, context, target_va, box.extent_nbytes(box.target), "write")
        source = _end_now(driver, context, source_va, box.extent_nbytes(box.source), "read")
        return _carry_out(driver, context, target, source, source.memory, box).end(ready_ns, queued_ns)

    return Task(NodeType.MEMCPY, context, run, parameters)


def _end_now(driver: Driver, context: Context, va: int, nbytes: int, access: Literal["read", "write"]) -> End:
    try:
        return end_of_copy(driver, va, nbytes)
    except DriverError:
        Operation(driver, context, "ce").illegal(va, access)


def _run(driver: Driver, context: Context, target: End, source: End, memory: Memory, box: Box) -> Run:
    def run(ready_ns: float, queued_ns: float) -> float:
        return _carry_out(driver, context, target, source, memory, box).end(ready_ns, queued_ns)

    return run


def _carry_out(driver: Driver, context: Context, target: End, source: End, memory: Memory, box: Box) -> Operation:
    operation = Operation(driver, context, "ce")
    for end in (target, source):
        if end.found is not None and end.found.by == "graph" and not end.found.access:
            operation.illegal(end.va, "write" if end is target else "read")
    _populate(operation, target)
    to, of = _transfer(operation, target, source, memory, box.nbytes)
    for target_at, source_at, length in box.rows():
        copy(to, target.offset + target_at, of, source.offset + source_at, length)
    return operation


def _populate(operation: Operation, target: End) -> None:
    """Managed pages that are nowhere yet come to be on the GPU that the copy runs on."""
    if target.found is not None and isinstance(target.found.memory, ManagedPages):
        pages = target.found.memory
        touched = pages.pages(target.offset, target.nbytes)
        if not pages.where[touched.slice].any():
            operation.fault(operation.device, target.va, target.nbytes, "write", "managed", operation.device.bdf)
            pages.move(touched, bit(operation.device.ordinal))


def _transfer(operation: Operation, target: End, source: End, memory: Memory, nbytes: int) -> tuple[Memory, Memory]:
    """Book the transfers of the copy; the memories that bytes then move to and from."""
    driver, device = operation.driver, operation.device
    owner, reader = source.holder(driver), target.holder(driver)
    if owner is None and reader is None:
        return target.memory, memory
    if owner is reader and owner is not None:
        operation.local(owner, nbytes, target.va)
        return target.memory, memory
    if owner is None or reader is None:
        requester = owner or reader or device
        far = target if owner is not None else source
        outcome = operation.dma(requester, owner, reader, nbytes, far.va)
        return _ends(requester, owner is not None, target, source, memory, outcome)
    return _between_gpus(operation, owner, reader, target, source, nbytes)


def _between_gpus(
    operation: Operation, owner: Device, reader: Device, target: End, source: End, nbytes: int
) -> tuple[Memory, Memory]:
    """By one transfer of the stream's GPU where it has mapped the other, else through host memory by one of each."""
    device = operation.device
    if _mapped(operation, target, "write") and _mapped(operation, source, "read"):
        requester = device if device in (owner, reader) else owner
        far = target if requester is owner else source
        outcome = operation.dma(requester, owner, reader, nbytes, far.va)
        return _ends(requester, requester is owner, target, source, source.memory, outcome)
    effects = [
        operation.dma(owner, owner, None, nbytes, source.va, STAGED_SHARE).effect,
        operation.dma(reader, None, reader, nbytes, target.va, STAGED_SHARE).effect,
    ]
    return (target.memory if effects == ["lands", "lands"] else Nowhere()), source.memory


def _mapped(operation: Operation, end: End, access: Literal["read", "write"]) -> bool:
    return end.found is None or may(operation.context, end.found, access)


def _ends(
    requester: Device, writes: bool, target: End, source: End, memory: Memory, outcome: DmaOutcome
) -> tuple[Memory, Memory]:
    if writes:
        if target.found is None:
            return _kept(target.memory, outcome.effect), memory
        return settle(target.found, requester, outcome, "write", (target.offset, target.nbytes)), memory
    if outcome.effect == "dropped":
        return Nowhere(), memory
    if source.found is None:
        return target.memory, memory
    return target.memory, source.found.seen_by(requester.ordinal, source.offset, source.nbytes)


def _kept(memory: Memory, effect: str) -> Memory:
    return memory if effect == "lands" else Nowhere()
