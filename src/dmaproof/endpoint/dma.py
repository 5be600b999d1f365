"""Workloads: DMA of one endpoint at another's registers, at memory, and at nothing; judged by the owner of what it hit.

An engine's own word is worth nothing: a posted write that an IOMMU refuses looks to its sender like one that landed. So
a peer's registers are read on the peer, and memory by the CPU.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from dmaproof.endpoint import edu, ram
from dmaproof.endpoint.edu import Edu
from dmaproof.endpoint.mmio import bar_of, registers

_WORD_NBYTES = 4


@dataclass(frozen=True, slots=True)
class PeerWrite:
    """``writer`` was told to write ``nwords`` (32 bits each) to ``address``, inside BAR0 of ``owner``.

    ``wrong_words`` of them are not what was written, as the owner itself holds them; ``old_words`` of these are still
    those from before. Of words that nobody knows (``known`` is False: the writer's buffer could not be loaded, because
    memory is as much out of its reach) those that have changed count as written.
    """

    writer: str
    owner: str
    address: int
    nwords: int
    known: bool
    wrong_words: int
    old_words: int
    seconds: float

    @property
    def landed(self) -> bool:
        return self.wrong_words == 0


@dataclass(frozen=True, slots=True)
class MemoryWrite:
    """``writer`` was told to write ``nbytes`` at physical address ``address``, a page of this system's own memory."""

    writer: str
    address: int
    nbytes: int
    changed_nbytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class MemoryRead:
    """``reader`` was told to read ``nbytes`` at ``address``: what came, only its buffer knows."""

    reader: str
    address: int
    nbytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class MemoryCopy:
    """``engine`` was told to read a page of random bytes at ``source`` and to write it at ``target``.

    ``wrong_nbytes``: how many bytes of the target differ from the source, as the CPU sees both.
    """

    engine: str
    source: int
    target: int
    nbytes: int
    wrong_nbytes: int


@dataclass(frozen=True, slots=True)
class Nowhere:
    """``writer`` was told to write ``nbytes`` at ``address``, where nothing is; it finished in ``seconds``."""

    writer: str
    address: int
    nbytes: int
    seconds: float


def peer_write(writer: str, owner: str, load: bool, nbytes: int = 8) -> PeerWrite:
    """edu ``writer`` writes ``nbytes`` (8, 16 or 24) into registers of edu ``owner``. ``load``: fill the writer's
    buffer from memory first, so that what must arrive is known; it is itself a DMA, for rigs where memory is in reach.
    """
    with ram.page() as page, registers(writer) as writing, registers(owner) as owning:
        source, target = Edu(writing, writer), Edu(owning, owner)
        source.check()
        target.check()
        old, sent = _random_words(), _random_words() if load else None
        if sent is not None:
            page.fill(b"".join(word.to_bytes(_WORD_NBYTES, "little") for word in sent))
            source.from_memory(page.physical, nbytes)
        target.set_scratch(old)
        address = bar_of(owner).address + edu.SCRATCH
        seconds = source.to_memory(address, nbytes)
        found = target.scratch()
        target.check()
    nwords = nbytes // _WORD_NBYTES
    still_old = sum(found[at] == old[at] for at in range(nwords))
    wrong = still_old if sent is None else sum(found[at] != sent[at] for at in range(nwords))
    return PeerWrite(
        writer=writer, owner=owner, address=address, nwords=nwords, known=load, wrong_words=wrong,
        old_words=still_old, seconds=seconds,
    )  # fmt: skip


def _random_words() -> tuple[int, ...]:
    return tuple(secrets.randbits(32) for _ in range(edu.SCRATCH_NBYTES // _WORD_NBYTES))


def memory_write(writer: str) -> MemoryWrite:
    """edu ``writer`` writes its buffer over a page of memory by the page's physical address."""
    before = secrets.token_bytes(ram.PAGE_NBYTES)
    with ram.page() as page, registers(writer) as writing:
        page.fill(before)
        engine = Edu(writing, writer)
        engine.check()
        seconds = engine.to_memory(page.physical, edu.NBYTES)
        after = page.read()
        address = page.physical
    changed = sum(now != then for now, then in zip(after, before, strict=True))
    return MemoryWrite(writer=writer, address=address, nbytes=edu.NBYTES, changed_nbytes=changed, seconds=seconds)


def memory_read(reader: str) -> MemoryRead:
    """edu ``reader`` reads a page of memory by its physical address."""
    with ram.page() as page, registers(reader) as reading:
        engine = Edu(reading, reader)
        engine.check()
        seconds = engine.from_memory(page.physical, edu.NBYTES)
        return MemoryRead(reader=reader, address=page.physical, nbytes=edu.NBYTES, seconds=seconds)


def memory_copy(engine: str) -> MemoryCopy:
    """edu ``engine`` copies one page of memory to another, each by its physical address."""
    sent = secrets.token_bytes(ram.PAGE_NBYTES)
    with ram.page() as source, ram.page() as target, registers(engine) as mapped:
        source.fill(sent)
        copying = Edu(mapped, engine)
        copying.check()
        copying.from_memory(source.physical, edu.NBYTES)
        copying.to_memory(target.physical, edu.NBYTES)
        wrong = sum(now != then for now, then in zip(target.read(), sent, strict=True))
        places = source.physical, target.physical
    return MemoryCopy(engine=engine, source=places[0], target=places[1], nbytes=edu.NBYTES, wrong_nbytes=wrong)


def write_nowhere(writer: str, address: int) -> Nowhere:
    """edu ``writer`` writes 8 bytes at ``address``. The caller knows that nothing is there."""
    with registers(writer) as writing:
        engine = Edu(writing, writer)
        engine.check()
        seconds = engine.to_memory(address, 8)
    return Nowhere(writer=writer, address=address, nbytes=8, seconds=seconds)
