"""Addresses: nothing that is in use is given out again, and mappings side by side read as one."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dmaproof.virtual.driver.address_space import GRANULE, AddressSpace, Allocation, Reservation
from dmaproof.virtual.driver.chunks import DeviceMemory
from dmaproof.virtual.driver.views import Joined

_ROOM = 24 * GRANULE
LENGTHS = st.lists(st.integers(1, 900), min_size=1, max_size=5)


@given(LENGTHS, st.data())
def test_joined_memories_are_one(lengths: list[int], data: Any) -> None:
    total, parts, at = sum(lengths), [], 0
    for length in lengths:
        parts.append((at, length, DeviceMemory(length)))
        at += length
    joined, plain = Joined(parts), bytearray(total)
    for number in range(4):
        start = data.draw(st.integers(0, total - 1))
        length = data.draw(st.integers(0, total - start))
        content = bytes((number + i) % 256 for i in range(length))
        joined.write(start, _array(content))
        plain[start : start + length] = content
        low = data.draw(st.integers(0, total - 1))
        assert joined.read(low, total - low).tobytes() == bytes(plain[low:])


def _array(content: bytes) -> Any:

    return np.frombuffer(content, np.uint8)


Held = Allocation | Reservation


@given(st.lists(st.tuples(st.sampled_from(["allocate", "reserve", "give back"]), st.integers(1, 3 * GRANULE))))
def test_no_address_is_given_out_twice(steps: list[tuple[str, int]]) -> None:
    space, held = AddressSpace(_ROOM), list[Held]()
    for what, nbytes in steps:
        if what == "give back" and held:
            _give_back(space, held.pop(nbytes % len(held)))
        elif sum(-(-one.nbytes // GRANULE) + 1 for one in held) * GRANULE > _ROOM // 8:
            continue  # never so full that there is no place left
        elif what == "allocate":
            va = space.device_address(nbytes)
            held.append(space.add(Allocation(va, nbytes, "device", 0, DeviceMemory(16))))
        elif what == "reserve":
            held.append(space.reserve(nbytes, GRANULE))
        ranges = sorted((one.va, one.end) for one in held)
        assert all(end <= start for (_, end), (start, _) in pairwise(ranges))
        assert all(space.is_device_address(one.va) and space.is_device_address(one.end - 1) for one in held)


def _give_back(space: AddressSpace, one: Held) -> None:
    if isinstance(one, Reservation):
        space.unreserve(one)
    else:
        space.remove(one)


@given(st.integers(0, 22), st.booleans())
def test_a_reservation_is_aligned_as_asked(power: int, before: bool) -> None:
    space = AddressSpace(64 * GRANULE)
    if before:
        space.add(Allocation(space.device_address(5), 5, "device", 0, DeviceMemory(5)))
    one = space.reserve(GRANULE, 1 << power)
    assert one.va % (1 << power) == 0
    assert space.reservation(one.va + GRANULE - 1) == one
    assert space.reservation(one.end) is None


@given(st.sets(st.integers(0, 9), min_size=1), st.integers(0, 9), st.integers(1, 10))
def test_a_range_overlaps_what_it_touches(taken: set[int], first: int, count: int) -> None:
    space = AddressSpace(_ROOM)
    base = space.device_address(10 * GRANULE)
    for number in taken:
        space.add(Allocation(base + number * GRANULE, GRANULE, "device", 0, DeviceMemory(16)))
    wanted = set(range(first, first + count))
    assert space.overlaps(base + first * GRANULE, count * GRANULE) == bool(wanted & taken)
