"""Workloads: one device's BAR in another's address space: as a dma-buf, or as this process's mapping of the BAR."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from dmaproof.endpoint import edu
from dmaproof.endpoint.assigned.engine import TARGET, Engine, engine
from dmaproof.endpoint.assigned.rules import Answer, ask
from dmaproof.errors import IoctlError, Unsupported
from dmaproof.vfio import dmabuf
from dmaproof.vfio.bind import bound
from dmaproof.vfio.device import Device
from dmaproof.vfio.dmabuf import DmaBuf, Part
from dmaproof.vfio.iommufd import Ioas
from dmaproof.vfio.memory import PAGE_NBYTES
from dmaproof.vfio.space import Backend, ioas_of, opened

IDENTITY_NBYTES = 4
"""At offset 0 of BAR0 edu, NVMe and igb all have a register whose 4 bytes can be read with no effect."""
Way = Literal["dma-buf", "bar"]


@dataclass(frozen=True, slots=True)
class BarExport:
    """BAR ``index`` of ``bar_nbytes``, exported whole: the dma-buf's size, and whether an IOAS took it."""

    index: int
    bar_nbytes: int
    nbytes: int
    imported: Answer


@dataclass(frozen=True, slots=True)
class Exports:
    """What becomes of a device's BARs; ``answers`` are about parts of the first one."""

    bars: tuple[BarExport, ...]
    answers: tuple[Answer, ...]

    def answer(self, question: str) -> Answer:
        return next(one for one in self.answers if one.question == question)


def exports(bdf: str) -> Exports:
    """Every BAR of ``bdf`` exported, and the first in parts. Raises Unsupported where the kernel exports none."""
    with bound((bdf,)), opened((bdf,), "iommufd") as one:
        device, ioas = one.devices[0], ioas_of(one.space)
        offered(device)
        bars = [bar for bar in device.bars if bar.mappable]
        first = bars[0]
        answers = [_in_parts(device, ioas, first.index, name, parts) for name, parts in _parts(first.nbytes).items()]
        absent = next(index for index in range(6) if index not in [bar.index for bar in device.bars])
        answers.append(_in_parts(device, ioas, absent, "no such BAR", [Part(0, PAGE_NBYTES)]))
        return Exports(tuple(_whole(device, ioas, bar.index, bar.nbytes) for bar in bars), tuple(answers))


def offered(device: Device) -> None:
    if not dmabuf.offered(device):
        raise Unsupported(f"the kernel cannot export BARs of {device.bdf} as dma-bufs (CONFIG_VFIO_PCI_DMABUF, 6.19)")


def _parts(nbytes: int) -> dict[str, list[Part]]:
    page = PAGE_NBYTES
    return {
        "the first page": [Part(0, page)],
        "the last page": [Part(nbytes - page, page)],
        "two parts": [Part(nbytes - page, page), Part(0, page)],
        "no part": [],
        "an empty part": [Part(0, 0)],
        "half a page": [Part(0, page // 2)],
        "at half a page": [Part(page // 2, page)],
        "past the end": [Part(nbytes - page, 2 * page)],
        "behind the end": [Part(nbytes, page)],
    }


def _whole(device: Device, ioas: Ioas, index: int, bar_nbytes: int) -> BarExport:
    with dmabuf.export(device, index) as whole:
        return BarExport(index, bar_nbytes, whole.nbytes, _imported(ioas, whole, "import"))


def _imported(ioas: Ioas, exported: DmaBuf, question: str) -> Answer:
    answer = ask(question, lambda: ioas.map_file(exported.fd, exported.nbytes, TARGET))
    if answer.error is None:
        ioas.unmap(TARGET, exported.nbytes)
    return answer


def _in_parts(device: Device, ioas: Ioas, index: int, name: str, parts: Sequence[Part]) -> Answer:
    """``error`` says who refused: ``export EINVAL``, ``import EOPNOTSUPP``."""
    try:
        made = dmabuf.export(device, index, parts)
    except IoctlError as error:
        return Answer(name, f"export {error.name}")
    with made:
        answer = _imported(ioas, made, name)
        return Answer(name, answer.error and f"import {answer.error}", made.nbytes)


def bar_as_memory(source: str, target: str, backend: Backend) -> Answer:
    """Whether this process's own mapping of the ``target``'s BAR0 can be given to ``source``: type1 does; iommufd says
    EFAULT, unless the kernel carries a workaround for PFN maps."""
    with bound((source, target)), opened((source, target), backend) as one, one.devices[1].bar(0) as bar:
        answer = ask("map a BAR", lambda: one.space.map(bar.address, bar.nbytes, TARGET))
        if answer.error is None:
            one.space.unmap(TARGET, bar.nbytes)
        return answer


@dataclass(frozen=True, slots=True)
class PeerDma:
    """Whether ``source`` read what the CPU reads there, and whether the target holds what ``source`` wrote (None: the
    target has no register that may be written for a try)."""

    read: bool
    wrote: bool | None

    @property
    def works(self) -> bool:
        return self.read and self.wrote is not False


def peer_dma(source: str, target: str, way: Way, backend: Backend, writable: bool) -> PeerDma:
    """edu ``source`` reads and (``writable``: the target is an edu, too) writes registers in BAR0 of ``target``."""
    with engine(source, backend, (target,)) as one, _mapped(one, way):
        return try_peer(one, writable)


@contextmanager
def _mapped(one: Engine, way: Way) -> Iterator[None]:
    """BAR0 of the engine's peer at TARGET of the address space."""
    if way == "dma-buf":
        with exported_to(one):
            yield
        return
    with one.others[0].bar(0) as bar:
        one.space.map(bar.address, bar.nbytes, TARGET)
        yield
        one.space.unmap(TARGET, bar.nbytes)


@contextmanager
def exported_to(one: Engine) -> Iterator[DmaBuf]:
    """BAR0 of the engine's peer as a dma-buf, mapped at TARGET. Raises Unsupported where the kernel exports none."""
    device = one.others[0]
    offered(device)
    with dmabuf.export(device, 0) as exported:
        ioas_of(one.space).map_file(exported.fd, exported.nbytes, TARGET)
        yield exported


def try_peer(one: Engine, writable: bool) -> PeerDma:
    """DMA to TARGET, judged by what the CPU sees of the peer."""
    read = reads(one)
    if not writable:
        return PeerDma(read, None)
    device, sent = one.others[0], secrets.token_bytes(edu.SCRATCH_NBYTES)
    one.write(TARGET + edu.SCRATCH, sent)
    return PeerDma(read, device.read(device.region(0), edu.SCRATCH, edu.SCRATCH_NBYTES) == sent)


def reads(one: Engine) -> bool:
    """Whether a DMA read at TARGET brings what the CPU reads there."""
    device = one.others[0]
    one.load(bytes(IDENTITY_NBYTES))
    return one.read(TARGET, IDENTITY_NBYTES) == device.read(device.region(0), 0, IDENTITY_NBYTES)
