"""Prefetching: to the GPU, the host, a NUMA node of the host and a peer; sizes at and beside the sizes of pages."""

from __future__ import annotations

import pytest

from dmaproof.cuda.memory import SharedKind
from dmaproof.cuda.unified.prefetch import Stop, Tour, tour
from fixtures.ends import End, Pair
from fixtures.evidence import NoteEvidence
from fixtures.pageable import RequireMemory, check_on_gpu, check_on_host
from fixtures.worker import Bench

PAGE, LARGE, HUGE = 4 << 10, 64 << 10, 2 << 20
SIZES = {
    **{"4KiB": PAGE, "64KiB-4KiB": LARGE - PAGE, "64KiB": LARGE, "64KiB+4KiB": LARGE + PAGE},
    **{"2MiB-4KiB": HUGE - PAGE, "2MiB": HUGE, "2MiB+4KiB": HUGE + PAGE},
}


@pytest.mark.catches("stage2_hole", "livelock_silent")
@pytest.mark.requires(gpus=1)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("memory", ["managed", "malloc"])
def test_prefetch_of_odd_sizes(
    typical_gpu: End,
    memory: SharedKind,
    size: str,
    worker: Bench,
    require_memory: RequireMemory,
    note_evidence: NoteEvidence,
) -> None:
    """There and back by way of a NUMA node of the host; what lies beside the range stays as it is."""
    require_memory(memory)
    bdf = typical_gpu.gpu.bdf
    places = [bdf, "numa", bdf, "host"]
    seen = worker.run(tour, gpu=bdf, memory=memory, nbytes=SIZES[size], places=places)
    _check(seen, memory, note_evidence)


@pytest.mark.requires(gpus=2)
@pytest.mark.parametrize("memory", ["managed", "malloc"])
def test_prefetch_to_a_peer(
    typical: Pair, memory: SharedKind, worker: Bench, require_memory: RequireMemory, note_evidence: NoteEvidence
) -> None:
    """From GPU to GPU, and from the peer to the host: peer access need not be enabled, or even be possible."""
    require_memory(memory)
    source, target = typical.source.bdf, typical.target.bdf
    places = [source, target, source, target, "host"]
    seen = worker.run(tour, gpu=source, memory=memory, nbytes=HUGE + PAGE, places=places)
    _check(seen, memory, note_evidence)


def _check(seen: Tour, memory: SharedKind, note_evidence: NoteEvidence) -> None:
    for number, stop in enumerate(seen.stops):
        _check_stop(stop, f"stop {number}, the prefetch to {stop.place}", memory, note_evidence)
    assert seen.beside == 0, f"{seen.beside} words next to the range that was prefetched have changed"


def _check_stop(stop: Stop, after: str, memory: SharedKind, note_evidence: NoteEvidence) -> None:
    found = stop.found
    assert found.wrong_words == 0, (
        f"after {after}, {found.wrong_words} words are not those of the stop before, "
        f"the first at offset {found.first_wrong_offset}"
    )
    if memory == "managed":
        assert stop.told == stop.place, f"after {after}, the driver says that the range was last sent to {stop.told}"
    elif ":" in stop.place:
        check_on_gpu(stop.where, after, note_evidence)
    else:
        check_on_host(stop.where, after, note_evidence)
