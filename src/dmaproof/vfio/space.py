"""One address space for several functions, whichever interface makes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

from dmaproof.errors import Unsupported
from dmaproof.vfio import container
from dmaproof.vfio.device import Device
from dmaproof.vfio.iommufd import BoundDevice, Ioas, Iommufd, IovaRange, attached

Backend = Literal["type1", "type1v2", "iommufd"]


class Space(Protocol):
    """Where devices see this process's memory. Raises IoctlError, as ``Container`` and ``Ioas`` tell."""

    def map(self, address: int, nbytes: int, iova: int, /, *, read: bool = True, write: bool = True) -> int: ...
    def unmap(self, iova: int, nbytes: int, /) -> int: ...
    def iova_ranges(self) -> tuple[IovaRange, ...]: ...


@dataclass(frozen=True, slots=True)
class Opened:
    """``devices`` in the order asked for."""

    space: Space
    devices: tuple[Device, ...]


def ioas_of(space: Space) -> Ioas:
    """``space`` as the one kind that takes dma-bufs. Raises Unsupported for type1."""
    if not isinstance(space, Ioas):
        raise Unsupported("only iommufd takes dma-bufs: a type1 container does not")
    return space


@contextmanager
def opened(bdfs: Sequence[str], backend: Backend) -> Iterator[Opened]:
    """``bdfs``, which a VFIO driver has, in one new address space; closed at the end. Raises Unsupported where the
    kernel lacks the interface."""
    if backend == "iommufd":
        with ExitStack() as made:
            iommufd = made.enter_context(Iommufd())
            ioas = iommufd.ioas()
            devices: list[BoundDevice] = [made.enter_context(attached(bdf, iommufd, ioas)) for bdf in bdfs]
            yield Opened(ioas, tuple(devices))
    else:
        with container.opened(tuple(bdfs), backend) as (space, functions):
            yield Opened(space, functions)
