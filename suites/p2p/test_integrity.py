"""Peer writes, judged by the only one who can: the owner of the memory, reading locally."""

from __future__ import annotations

import pytest

from dmaproof.cuda.integrity import PeerWrite, peer_write
from dmaproof.cuda.landing import Landing, Way, kind_writes, peer_writes
from dmaproof.cuda.memory.owned import DeviceKind
from dmaproof.cuda.writes import Writer
from dmaproof.evidence.fact import PeerWriteSeen
from fixtures.ends import Pair
from fixtures.evidence import NoteFact
from fixtures.peer_writes import seen, told
from fixtures.worker import Bench


@pytest.mark.catches("mirror", "mismatch", "silent_drop", "can_not_enable", "mailbox", "bar_efault")
@pytest.mark.requires(gpus=2, peer=True)
@pytest.mark.parametrize("nbytes", [pytest.param(1 << 10, id="1KiB"), pytest.param(64 << 20, id="64MiB")])
@pytest.mark.parametrize("engine", ["ce", "sm"])
def test_peer_write_lands(pair: Pair, nbytes: int, engine: Writer, worker: Bench, note_fact: NoteFact) -> None:
    wrote = worker.run(peer_write, writer=pair.source.bdf, owner=pair.target.bdf, nbytes=nbytes, engine=engine)
    story = _story(wrote, pair)
    note_fact("peer-write", story, _seen(wrote, pair, engine, nbytes))
    assert wrote.landed, story


@pytest.mark.catches("mismatch", "silent_drop")
@pytest.mark.requires(gpus=2, peer=True)
@pytest.mark.parametrize("engine", ["ce", "sm"])
def test_a_gibibyte_lands(typical: Pair, engine: Writer, worker: Bench, note_fact: NoteFact) -> None:
    test_peer_write_lands(typical, 1 << 30, engine, worker, note_fact)


BESIDE = "beside other writes"
KIND_NBYTES = 4 << 20
EXTENTS = [(8, 0), (1, 3), (8, 5), (100, 13), (4095, 1), (4096, 0), ((64 << 10) + 13, 7), ((2 << 20) + 5, 9)]
"""(bytes, offset): whole units and torn ones, within a page and across."""
ALIGNED_EXTENTS = [(16, 0), (16, 48), (4096, 16), ((64 << 10) + 16, 240), ((2 << 20) + 48, 32)]
"""What the tensor memory accelerator takes: multiples of 16 bytes (PTX ISA, cp.async.bulk)."""


@pytest.mark.catches("mismatch", "silent_drop", "mirror")
@pytest.mark.requires(gpus=2, peer=True)
@pytest.mark.parametrize("busy", [pytest.param(False, id="quiet"), pytest.param(True, id="busy")])
@pytest.mark.parametrize("way", ["ce", "sm", "tma", "graph-ce", "graph-sm"])
def test_every_write_path_lands(typical: Pair, way: Way, busy: bool, worker: Bench, note_fact: NoteFact) -> None:
    """Any length at any address, both directions; busy: while other streams copy between the two, both ways."""
    for pair in (typical, typical.reversed()):
        ends = {"writer": pair.source.bdf, "owner": pair.target.bdf}
        extents = ALIGNED_EXTENTS if way == "tma" else EXTENTS
        wrote = worker.run(peer_writes, **ends, way=way, extents=extents, busy=busy)
        landing = next((one for one in wrote.landings if not one.landed), wrote.landings[0])
        story = _landed(landing, pair, way)
        note_fact("peer-write", story, _as_words(landing, pair, way, wrote.can_access))
        beside = list(zip(wrote.beside, (pair, pair.reversed()), strict=False))
        for other, way_of in beside:
            fact = seen(other, way_of, "ce", can_access=wrote.can_access, how=BESIDE)
            note_fact("peer-write", told(other, way_of, BESIDE), fact)
        assert landing.landed, story
        for other, way_of in beside:
            assert not other.owner.wrong_words, told(other, way_of, BESIDE)


@pytest.mark.catches("mismatch", "silent_drop", "mirror")
@pytest.mark.requires(gpus=2, peer=True)
@pytest.mark.parametrize("memory", ["pool", "vmm", "vmm-fd", "ipc"])
def test_every_kind_is_written_in_every_way(
    typical: Pair, memory: DeviceKind, worker: Bench, note_fact: NoteFact
) -> None:
    """Beside plain copies, which go with their rates (test_memory_kinds)."""
    ends = {"writer": typical.source.bdf, "owner": typical.target.bdf}
    wrote = worker.run(kind_writes, **ends, memory=memory, nbytes=KIND_NBYTES, ways=["sm", "graph-ce", "graph-sm"])
    landing = next((one for one in wrote.landings if one.wrote.owner.wrong_words), wrote.landings[0])
    engine: Writer = "ce" if landing.way.endswith("ce") else "sm"
    how = f"{'a graph, ' if landing.way.startswith('graph') else ''}{memory} memory"
    story = told(landing.wrote, typical, f"{engine}, {how}")
    note_fact("peer-write", story, seen(landing.wrote, typical, engine, can_access=wrote.can_access, how=how))
    assert not landing.wrote.owner.wrong_words, story


def _as_words(landing: Landing, pair: Pair, way: Way, can_access: bool) -> PeerWriteSeen:
    """In words of four bytes, the last of them begun counting as one."""
    by_writer = landing.writer_wrong
    return PeerWriteSeen(
        writer=pair.source.bdf,
        owner=pair.target.bdf,
        engine="ce" if way.endswith("ce") else "sm",
        nbytes=landing.extent.nbytes,
        nwords=_words(landing.extent.nbytes),
        wrong_words=_words(max(landing.wrong, landing.wrong_by_kernel)),
        old_words=_words(landing.old),
        writer_wrong_words=_words(by_writer) if by_writer is not None else None,
        can_access=can_access,
        how="a graph" if way.startswith("graph") else "tensor memory accelerator" if way == "tma" else None,
    )


def _words(nbytes: int) -> int:
    return -(-nbytes // 4)


def _landed(landing: Landing, pair: Pair, way: Way) -> str:
    extent, owner = landing.extent, pair.target.name
    found = (
        f"of {extent.nbytes} bytes that {pair.source.name} wrote at offset {extent.offset} ({way}) {owner} finds "
        f"{landing.wrong} wrong by a copy to the host, {landing.wrong_by_kernel} by its own kernel; {landing.old} are "
        "what was there before"
    )
    if landing.first_wrong is not None:
        found += f"; the first wrong one is byte {landing.first_wrong}"
    if landing.beside:
        found += f"; {landing.beside} bytes beside them have changed, which nobody was to write"
    if landing.writer_wrong == 0 and landing.wrong:
        found += f"; yet {pair.source.name} reads its own data back through its mapping"
    return found


def _seen(wrote: PeerWrite, pair: Pair, engine: Writer, nbytes: int) -> PeerWriteSeen:
    """The owner looked twice; what either of its looks found wrong is wrong."""
    return PeerWriteSeen(
        writer=pair.source.bdf,
        owner=pair.target.bdf,
        engine=engine,
        nbytes=nbytes,
        nwords=wrote.nwords,
        wrong_words=max(wrote.owner.wrong_words, wrote.owner_copied.wrong_words),
        old_words=wrote.old_words,
        writer_wrong_words=wrote.writer.wrong_words,
        can_access=wrote.can_access,
    )


def _story(wrote: PeerWrite, pair: Pair) -> str:
    owner, view = pair.target.name, wrote.owner
    found = (
        f"{owner} finds {view.wrong_words} of {wrote.nwords} words wrong, the first at byte {view.first_wrong_offset}; "
        f"{wrote.old_words} words still hold what was there before"
    )
    if wrote.writer.wrong_words == 0:
        found += (
            f"; yet {pair.source.name} reads its own data back through its mapping (a mirror, not {owner}'s memory)"
        )
    if wrote.can_access and not wrote.landed:
        found += "; the driver says that it can reach that memory (canAccessPeer is 1): its data path says no"
    if wrote.owner.wrong_words != wrote.owner_copied.wrong_words:
        found += f"; a copy to the host shows {wrote.owner_copied.wrong_words} wrong words"
    return found
