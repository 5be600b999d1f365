"""Modules and libraries: PTX images, their kernels, and launching a kernel's host counterpart."""

from __future__ import annotations

import ctypes
from collections.abc import Generator
from dataclasses import dataclass

from dmaproof.virtual.driver.access import Operation
from dmaproof.virtual.driver.driver import Driver
from dmaproof.virtual.driver.errors import CuResult, DriverError, not_supported
from dmaproof.virtual.driver.gpus import Context
from dmaproof.virtual.driver.graphs import NodeType, Task
from dmaproof.virtual.driver.kernels import counterpart
from dmaproof.virtual.driver.ptx import Entry, PtxError, entries
from dmaproof.virtual.driver.streams import Run, Stream

_ELF, _FATBIN = b"\x7fELF", (b"\x50\xed\x55\xba", b"\x66\x55\xb1\xba", b"\x46\x62\x43\xb1")
_MOST_THREADS = 1024


@dataclass(eq=False, slots=True)
class Kernel:
    """One entry of a module; the same object serves as CUkernel and CUfunction."""

    entry: Entry
    module: Module
    name: ctypes.Array[ctypes.c_char]
    handle: int = 0


class Module:
    """A loaded image (CUmodule, CUlibrary)."""

    def __init__(self, driver: Driver, found: tuple[Entry, ...]) -> None:
        self.handle = driver.handles.add(self)
        self.kernels: dict[str, Kernel] = {}
        for entry in found:
            kernel = Kernel(entry, self, ctypes.create_string_buffer(entry.name.encode()))
            kernel.handle = driver.handles.add(kernel)
            self.kernels[entry.name] = kernel

    def unload(self, driver: Driver) -> None:
        for handle in (self.handle, *(kernel.handle for kernel in self.kernels.values())):
            driver.handles.remove(handle)

    def kernel(self, name: str) -> Kernel:
        """NOT_FOUND where the image has no such kernel, NOT_SUPPORTED where it has no counterpart."""
        if name not in self.kernels:
            raise DriverError(CuResult.NOT_FOUND)
        if counterpart.find(name) is None:
            raise not_supported(f"kernel {name} has no host counterpart in dmaproof.virtual.driver.kernels")
        return self.kernels[name]


def load(driver: Driver, image: int) -> Module:
    """The module at address ``image``: zero-terminated PTX text, checked against the counterparts it names."""
    if not image:
        raise DriverError(CuResult.INVALID_VALUE)
    head = ctypes.string_at(image, 4)
    if head == _ELF or head in _FATBIN:
        raise not_supported("a binary image (cubin or fatbin): compile to PTX, which names its kernels and parameters")
    try:
        found = entries(ctypes.string_at(image).decode("utf-8", "replace"))
    except PtxError as error:
        raise DriverError(CuResult.INVALID_PTX, str(error)) from None
    wrong = next(filter(None, map(counterpart.difference, found)), None)
    if wrong is not None:
        raise DriverError(CuResult.INVALID_PTX, wrong)
    return Module(driver, found)


def arguments(entry: Entry, packed: int) -> tuple[int, ...]:
    """The arguments at ``packed`` (void *kernelParams[]), as unsigned integers."""
    values = []
    for index, parameter in enumerate(entry.parameters):
        where = ctypes.c_void_p.from_address(packed + index * ctypes.sizeof(ctypes.c_void_p)).value
        if not where:
            raise DriverError(CuResult.INVALID_VALUE)
        values.append(int.from_bytes(ctypes.string_at(where, parameter.nbytes), "little"))
    return tuple(values)


@dataclass(frozen=True, slots=True)
class Packed:
    """Arguments of our own: what kernelParams points to, and what its pointers do."""

    pointers: ctypes.Array[ctypes.c_void_p]
    values: tuple[ctypes.Array[ctypes.c_char], ...]


def packed_again(entry: Entry, packed: int) -> Packed:
    """A copy of the arguments at ``packed``."""
    values = tuple(
        ctypes.create_string_buffer(value.to_bytes(one.nbytes, "little"), one.nbytes)
        for value, one in zip(arguments(entry, packed), entry.parameters, strict=True)
    )
    return Packed((ctypes.c_void_p * len(values))(*(ctypes.addressof(one) for one in values)), values)


def launch(driver: Driver, stream: Stream, kernel: Kernel, grid: int, block: int, packed: int) -> None:
    """Queue ``kernel`` with ``grid`` blocks of ``block`` threads; its parameters are read now, as CUDA does."""
    assert isinstance(stream.context, Context)  # noqa: S101
    driver.submit(stream, kernel_task(driver, stream.context, kernel, grid, block, packed))


def kernel_task(  # noqa: PLR0913, RUF100
    driver: Driver, context: Context, kernel: Kernel, grid: int, block: int, packed: int, parameters: object = None
) -> Task:
    """The launch, to be done on ``context``. INVALID_VALUE for a shape that no GPU takes."""
    if grid < 1 or block < 1 or (kernel.entry.parameters and not packed):
        raise DriverError(CuResult.INVALID_VALUE)
    if block > _MOST_THREADS:
        raise DriverError(CuResult.INVALID_VALUE)
    run = _run(driver, context, kernel, arguments(kernel.entry, packed), grid * block)
    return Task(NodeType.KERNEL, context, run, parameters)


def _run(driver: Driver, context: Context, kernel: Kernel, values: tuple[int, ...], nthreads: int) -> Run:
    known = counterpart.find(kernel.entry.name)
    assert known is not None  # noqa: S101 - kernel() gives out no others

    def run(ready_ns: float, queued_ns: float) -> float | Generator[None, None, float]:
        operation = Operation(driver, context, "sm")
        result = known.body(counterpart.Launch(operation, ready_ns, queued_ns, nthreads), *values)
        return operation.end(ready_ns, queued_ns) if result is None else result

    return run
