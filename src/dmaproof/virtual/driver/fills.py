"""Fills by the copy engines."""

from __future__ import annotations

from dmaproof.virtual.driver.access import Operation
from dmaproof.virtual.driver.boxes import Box
from dmaproof.virtual.driver.chunks import DeviceMemory, Memory, copy
from dmaproof.virtual.driver.copies import check_rights, end_of_copy
from dmaproof.virtual.driver.driver import Driver
from dmaproof.virtual.driver.errors import require
from dmaproof.virtual.driver.gpus import Context
from dmaproof.virtual.driver.graphs import NodeType, Task
from dmaproof.virtual.driver.streams import Stream


def queue_fill(driver: Driver, stream: Stream, va: int, unit: bytes, box: Box) -> None:
    """Queue a fill of ``box`` (its target) at ``va`` with ``unit`` on ``stream``."""
    assert isinstance(stream.context, Context)  # noqa: S101
    task = fill_task(driver, stream.context, va, unit, box)
    if box.nbytes:
        driver.submit(stream, task)


def fill_task(driver: Driver, context: Context, va: int, unit: bytes, box: Box, parameters: object = None) -> Task:  # noqa: PLR0913, RUF100
    """A fill by ``context``'s engines. Raises DriverError INVALID_VALUE."""
    nbytes = box.extent_nbytes(box.target)
    require(va % len(unit) == 0 and box.target[0] % len(unit) == 0)
    found = end_of_copy(driver, va, nbytes or 1).found
    require(found is not None)
    check_rights(driver.current or context, found, "write")

    def run(ready_ns: float, queued_ns: float) -> float:
        operation = Operation(driver, context, "ce")
        span = operation.span(va, nbytes, "write")
        for to, _, length in box.rows():
            fill(span.memory, span.offset + to, length, unit)
        return operation.end(ready_ns, queued_ns)

    return Task(NodeType.MEMSET, context, run, parameters)


def fill(memory: Memory, offset: int, nbytes: int, unit: bytes) -> None:
    if isinstance(memory, DeviceMemory):
        memory.fill(offset, nbytes, unit)
        return
    block = DeviceMemory(nbytes)
    block.fill(0, nbytes, unit)
    copy(memory, offset, block, 0, nbytes)
