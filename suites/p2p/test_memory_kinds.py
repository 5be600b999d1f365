"""Copies from and to every kind of host and device memory, and of every size; the memory's owner looks at the data."""

from __future__ import annotations

import pytest

from dmaproof.cuda.memory.host import HOST_KINDS, HostKind
from dmaproof.cuda.memory.owned import DEVICE_KINDS, DeviceKind
from dmaproof.cuda.memory_copies import PeerCopies, copies_by_size, host_copies, peer_copies
from dmaproof.evidence.fact import PeerReadSeen
from fixtures.ends import End, Pair
from fixtures.evidence import NoteFact
from fixtures.measure import Measure, reaches
from fixtures.peer_writes import seen, told
from fixtures.worker import Bench

NBYTES = 16 << 20
SIZES = tuple(1024 * 4**power for power in range(11))
"""1 KiB to 1 GiB."""
LINK_RATE_NBYTES = 16 << 20
"""From this size on a copy takes so long that the link's rate is what counts."""
AT_LINK_RATE: tuple[HostKind, ...] = ("pinned", "registered", "write-combined", "host-numa", "hugepages")
"""Kinds that a copy engine reads and writes by itself."""


@pytest.mark.requires(gpus=1)
@pytest.mark.parametrize("kind", HOST_KINDS)
def test_host_memory_of_every_kind(typical_gpu: End, kind: HostKind, worker: Bench, measure: Measure) -> None:
    name = typical_gpu.gpu.name
    done = worker.run(host_copies, gpu=typical_gpu.gpu.bdf, memory=kind, nbytes=NBYTES)
    short = []
    for measured, ends, memory in (
        (done.down, ("host", name), f"{kind}>device"),
        (done.up, (name, "host"), f"device>{kind}"),
    ):
        path = typical_gpu.node.path_between(*ends)
        declared = path.bandwidth_GBps if path and kind in AT_LINK_RATE else None
        where = {"source": ends[0], "target": ends[1], "path": "ce", "direction": "one"}
        measure(measured, **where, nbytes=NBYTES, memory=memory, declared=declared)
        if not reaches(measured, declared, "ce"):
            short.append(f"{memory} {measured.median:.1f} GB/s of {declared} GB/s declared")
    assert done.on_device.wrong_words == 0, f"{name} finds {done.on_device} in what it was sent from {kind} memory"
    assert done.on_host.wrong_words == 0, f"the CPU finds {done.on_host} in what {name} sent to {kind} memory"
    assert not short, "; ".join(short)


@pytest.mark.catches("mirror", "mismatch", "silent_drop")
@pytest.mark.requires(gpus=2, peer=True)
@pytest.mark.parametrize("kind", DEVICE_KINDS)
def test_peer_memory_of_every_kind(
    typical: Pair, kind: DeviceKind, worker: Bench, measure: Measure, note_fact: NoteFact
) -> None:
    """``ipc`` memory is another process's: that process looks at it."""
    user, owner = typical.source, typical.target
    done = worker.run(peer_copies, user=user.bdf, owner=owner.bdf, memory=kind, nbytes=NBYTES)
    story = told(done.wrote, typical, f"ce, {kind} memory")
    note_fact("peer-write", story, seen(done.wrote, typical, "ce", how=f"{kind} memory"))
    got = f"{user.name} finds {done.reader} in what it read from {kind} memory of {owner.name}"
    note_fact("peer-read", got, _read(typical, done))
    short = []
    for measured, pair, memory in (
        (done.write, typical, f"device>{kind}"),
        (done.read, typical.reversed(), f"{kind}>device"),
    ):
        declared = pair.path.bandwidth_GBps if pair.path else None
        ends = {"source": pair.source.name, "target": pair.target.name, "path": "ce", "direction": "one"}
        measure(measured, **ends, peer=True, nbytes=NBYTES, memory=memory, declared=declared)
        if not reaches(measured, declared, "ce"):
            short.append(f"{memory} {measured.median:.1f} GB/s of {declared} GB/s declared")
    assert done.wrote.owner.wrong_words == 0, story
    assert done.reader.wrong_words == 0, got
    assert not short, "; ".join(short)


def _read(pair: Pair, done: PeerCopies) -> PeerReadSeen:
    return PeerReadSeen(
        reader=pair.source.bdf,
        owner=pair.target.bdf,
        engine="ce",
        nbytes=NBYTES,
        nwords=done.wrote.nwords,
        wrong_words=done.reader.wrong_words,
    )


@pytest.mark.catches("mismatch", "silent_drop")
@pytest.mark.requires(gpus=2, peer=True)
def test_peer_copies_of_every_size(typical: Pair, worker: Bench, measure: Measure, note_fact: NoteFact) -> None:
    """1 KiB to 1 GiB: a rate that falls again with the size is a buffer that ends, a cache, or an IOMMU's TLB."""
    sweep = worker.run(copies_by_size, source=typical.source.bdf, target=typical.target.bdf, sizes=SIZES)
    declared = typical.path.bandwidth_GBps if typical.path else None
    ends = {"source": typical.source.name, "target": typical.target.name, "path": "ce", "direction": "one"}
    failed = []
    for one in sweep.copies:
        expected = declared if one.nbytes >= LINK_RATE_NBYTES else None
        measure(one.measurement, **ends, peer=True, nbytes=one.nbytes, memory="device>device", declared=expected)
        if one.wrote.owner.wrong_words:
            failed.append(told(one.wrote, typical, f"ce, {one.nbytes} bytes"))
            note_fact("peer-write", failed[-1], seen(one.wrote, typical, "ce"))
        if not reaches(one.measurement, expected, "ce"):
            failed.append(f"{one.nbytes} bytes: {one.measurement.median:.1f} GB/s of {expected} GB/s declared")
    assert not failed, "; ".join(failed)
