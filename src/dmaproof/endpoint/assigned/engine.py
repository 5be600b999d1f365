"""An edu in an address space of its own, with one page of memory that it certainly reaches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from dmaproof.endpoint.edu import Edu
from dmaproof.vfio import command
from dmaproof.vfio.bind import bound
from dmaproof.vfio.device import Device
from dmaproof.vfio.memory import PAGE_NBYTES, Ram
from dmaproof.vfio.space import Backend, Space, opened

HOME = 0x0100_0000
"""IOVA of the page that is always mapped. All IOVAs are below 2**28, which an edu reaches with its default mask, and
outside the regions that x86 and arm64 reserve for interrupts (0xfee00000, 0x08000000)."""
TARGET = 0x0200_0000
"""IOVA of what a workload maps to try something out."""
_IN, _OUT = 0, PAGE_NBYTES // 2


@dataclass(frozen=True, slots=True)
class Engine:
    """``others`` are functions in the same address space; ``ram`` is the page at HOME."""

    space: Space
    device: Device
    edu: Edu
    ram: Ram
    others: tuple[Device, ...]

    def load(self, data: bytes) -> None:
        """Put ``data`` into the edu's buffer."""
        self.ram.data[_IN : _IN + len(data)] = data
        self.edu.from_memory(HOME + _IN, len(data))

    def unload(self, nbytes: int) -> bytes:
        """What the edu's buffer holds."""
        self.ram.data[_OUT : _OUT + nbytes] = bytes(nbytes)
        self.edu.to_memory(HOME + _OUT, nbytes)
        return bytes(self.ram.data[_OUT : _OUT + nbytes])

    def write(self, iova: int, data: bytes) -> None:
        """DMA of ``data`` to ``iova``, whatever may come of it."""
        self.load(data)
        self.edu.to_memory(iova, len(data))

    def read(self, iova: int, nbytes: int) -> bytes:
        """DMA from ``iova``: what the edu then has, which is what it had where the read reached nothing."""
        self.edu.from_memory(iova, nbytes)
        return self.unload(nbytes)


@contextmanager
def engine(bdf: str, backend: Backend, others: Sequence[str] = ()) -> Iterator[Engine]:
    """The edu ``bdf`` and ``others`` bound to VFIO, in one address space; put back afterwards.

    Raises DmaproofError, EndpointError; Unsupported where the kernel lacks the interface.
    """
    with bound((bdf, *others)), on_bound(bdf, backend, others) as one:
        yield one


@contextmanager
def on_bound(bdf: str, backend: Backend, others: Sequence[str] = ()) -> Iterator[Engine]:
    """The same for functions that VFIO has already."""
    with ExitStack() as made:
        ram = made.enter_context(Ram(PAGE_NBYTES))  # first: it has to outlive the mapping
        both = made.enter_context(opened((bdf, *others), backend))
        device = both.devices[0]
        command.set_bus_master(device, True)
        edu = Edu(made.enter_context(device.bar(0)), bdf)
        edu.check()
        both.space.map(ram.address, ram.nbytes, HOME)
        yield Engine(both.space, device, edu, ram, both.devices[1:])
