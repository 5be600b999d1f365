"""Chunked memory against a bytearray: whatever is shared underneath, every byte is where it belongs."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmaproof.virtual.driver import chunks
from dmaproof.virtual.driver.chunks import DeviceMemory, copy
from dmaproof.virtual.driver.host import SparseMemory, unmap
from dmaproof.virtual.driver.kernels import pattern
from dmaproof.virtual.driver.views import Mirror

SMALL = 64
LENGTH = 5 * SMALL + 17


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 64 bytes, so that short examples cross many of their borders."""
    monkeypatch.setattr(chunks, "CHUNK", SMALL)


def ranges() -> st.SearchStrategy[tuple[int, int]]:
    """(offset, length), often on chunk borders."""
    edges = st.one_of(st.integers(0, LENGTH), st.sampled_from([0, SMALL, 2 * SMALL, 3 * SMALL, LENGTH]))
    return st.tuples(edges, edges).map(lambda ends: (min(ends), abs(ends[1] - ends[0])))


steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 2), ranges(), st.integers(0, 255)),
        st.tuples(st.just("fill"), st.integers(0, 2), ranges(), st.integers(0, 255)),
        st.tuples(st.just("copy"), st.integers(0, 8), ranges(), st.integers(0, LENGTH)),
    ),
    max_size=25,
)


@settings(max_examples=300, deadline=None)
@given(steps)
def test_every_sequence_of_writes_fills_and_copies_reads_like_plain_bytes(
    sequence: list[tuple[str, int, tuple[int, int], int]],
) -> None:
    memories, plain = [DeviceMemory(LENGTH) for _ in range(3)], [bytearray(LENGTH) for _ in range(3)]
    for kind, which, (offset, nbytes), value in sequence:
        if kind == "copy":
            of, to = divmod(which, 3)
            nbytes = min(nbytes, LENGTH - value)
            if of == to and nbytes:
                continue
            copy(memories[to], value, memories[of], offset, nbytes)
            plain[to][value : value + nbytes] = plain[of][offset : offset + nbytes]
            continue
        content = bytes((value + i) & 0xFF for i in range(nbytes)) if kind == "write" else bytes([value]) * nbytes
        if kind == "write":
            memories[which].write(offset, np.frombuffer(content, np.uint8))
        else:
            memories[which].fill(offset, nbytes, bytes([value]))
        plain[which][offset : offset + nbytes] = content
    assert [memory.read(0, LENGTH).tobytes() for memory in memories] == [bytes(one) for one in plain]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), ranges(), st.integers(1, 255)), max_size=12), ranges())
def test_a_mirror_shows_the_writers_data_and_the_owner_keeps_its_own(
    writes: list[tuple[bool, tuple[int, int], int]], looked_at: tuple[int, int]
) -> None:
    owner = DeviceMemory(LENGTH)
    mirror = Mirror(owner, LENGTH)
    owners, seen, strayed = bytearray(LENGTH), bytearray(LENGTH), bytearray(LENGTH)
    for by_owner, (offset, nbytes), value in writes:
        data = np.full(nbytes, value, np.uint8)
        (owner if by_owner else mirror).write(offset, data)
        for at in range(offset, offset + nbytes):
            strayed[at] |= not by_owner
            owners[at] = value if by_owner else owners[at]
            seen[at] = seen[at] if by_owner and strayed[at] else value
    assert owner.read(0, LENGTH).tobytes() == owners
    assert mirror.read(0, LENGTH).tobytes() == seen
    offset, nbytes = looked_at
    assert mirror.showing(offset, nbytes).read(offset, nbytes).tobytes() == seen[offset : offset + nbytes]


PAGE = 4096
PAGES = 5 * PAGE + 96
page_ranges = st.tuples(st.integers(0, 5), st.sampled_from([0, 32]), st.integers(1, 3), st.sampled_from([0, 64]))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["cpu", "out", "in"]), page_ranges, st.integers(0, 255)), max_size=12))
def test_host_memory_that_nobody_touched_is_zeros_and_else_what_was_written(
    steps: list[tuple[str, tuple[int, int, int, int], int]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK", PAGE)
        device, host = DeviceMemory(PAGES), SparseMemory(6 * PAGE)
        try:
            plain = {"device": bytearray(PAGES), "host": bytearray(PAGES)}
            for what, (page, shift, npages, more), value in steps:
                at = page * PAGE + shift
                nbytes = max(0, min(npages * PAGE + more, PAGES - at))
                if what == "cpu":
                    ctypes.memset(host.address + at, value, nbytes)
                    plain["host"][at : at + nbytes] = bytes([value]) * nbytes
                    continue
                ends = (device, host) if what == "in" else (host, device)
                names = ("device", "host") if what == "in" else ("host", "device")
                copy(ends[0], at, ends[1], at, nbytes)
                plain[names[0]][at : at + nbytes] = plain[names[1]][at : at + nbytes]
                if what == "in" and value % 4 == 0:
                    device.write(at, np.full(nbytes, value, np.uint8))
                    plain["device"][at : at + nbytes] = bytes([value]) * nbytes
            assert device.read(0, PAGES).tobytes() == plain["device"]
            assert host.read(0, PAGES).tobytes() == plain["host"]
        finally:
            unmap(host.address, host.nbytes)
            host.close()


def test_copies_of_untouched_host_memory_touch_none_of_it() -> None:
    device, host = DeviceMemory(4 * PAGE), SparseMemory(4 * PAGE)
    copy(device, 0, host, 0, 4 * PAGE)
    copy(host, 0, device, 0, 4 * PAGE)
    assert host.untouched(0, 4 * PAGE)
    host.write(PAGE, np.ones(1, np.uint8))
    assert [host.untouched(page * PAGE, PAGE) for page in range(4)] == [True, False, True, True]
    unmap(host.address, host.nbytes)
    host.close()


def test_whole_chunks_are_copied_by_reference_and_parted_by_the_next_write() -> None:
    one, other = DeviceMemory(4 * SMALL), DeviceMemory(4 * SMALL)
    one.write(0, np.arange(4 * SMALL, dtype=np.uint8))
    copy(other, 0, one, 0, 4 * SMALL)
    assert all(a is b for a, b in zip(one.chunks, other.chunks, strict=True))
    one.write(SMALL, np.zeros(1, np.uint8))
    assert other.read(SMALL, 1)[0] == SMALL
    assert one.chunks[2] is other.chunks[2]


def pattern_word(i: int, seed: int) -> int:
    """pattern.cuh in plain Python."""
    mask = 0xFFFFFFFF
    x = ((i & mask) * 2654435761 + (i >> 32) + seed) & mask
    x ^= x >> 16
    x = x * 0x85EBCA6B & mask
    return x ^ x >> 13


@given(st.integers(0, 1 << 40), st.integers(0, 40), st.integers(0, 0xFFFFFFFF))
def test_pattern_words_are_those_of_the_kernel(first: int, nwords: int, seed: int) -> None:
    expected = [pattern_word(first + i, seed) for i in range(nwords)]
    assert pattern.words(first, nwords, seed).tolist() == expected
