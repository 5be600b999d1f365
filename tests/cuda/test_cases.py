"""The plan of nvbandwidth's cases: which cells there are, what loads the links meanwhile, whose figure counts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmaproof.cuda.cases import BY_NAME, CASES, Case, Cell, plan
from dmaproof.cuda.copies import HOST

NBYTES = 1 << 20
GPUS = tuple(f"0000:{number:02x}:00.0" for number in range(1, 9))

counts = st.integers(0, 8)
cases = st.sampled_from(CASES)
unmapped = st.sets(st.tuples(st.sampled_from(GPUS), st.sampled_from(GPUS)), max_size=6)


def everyone(_one: str, _other: str) -> bool:
    return True


def without(pairs: set[tuple[str, str]]) -> Callable[[str, str], bool]:
    return lambda one, other: (one, other) not in pairs


def cells(name: str, count: int = 4) -> tuple[Cell, ...]:
    return plan(BY_NAME[name], GPUS[:count], everyone, NBYTES)


def flows(cell: Cell) -> list[tuple[str, str, int]]:
    return [(one.source, one.target, one.nbytes // NBYTES) for one in cell.transfers]


def test_the_names_and_numbers_are_nvbandwidths() -> None:
    """As `nvbandwidth --list` of v0.10 gives them."""
    assert len(CASES) == len(BY_NAME) == 44
    numbers = {
        0: "host_to_device_memcpy_ce",
        4: "device_to_device_memcpy_read_ce",
        9: "all_to_host_bidirectional_memcpy_ce",
    }
    numbers |= {12: "all_to_one_write_ce", 15: "one_to_all_read_ce", 16: "host_to_device_memcpy_sm"}
    numbers |= {27: "host_to_all_bidirectional_memcpy_sm", 31: "one_to_all_read_sm", 32: "host_device_latency_sm"}
    numbers |= {33: "device_to_device_latency_sm", 37: "device_to_device_bidirectional_memcpy_write_tma"}
    numbers |= {38: "device_local_copy", 41: "device_local_write_sm", 42: "device_to_device_latency_tma"}
    assert {number: CASES[number].name for number in numbers} == numbers


@given(cases, counts, unmapped)
def test_a_matrix_has_each_cell_once_and_only_pairs_that_reach_each_other(
    case: Case, count: int, missing: set[tuple[str, str]]
) -> None:
    gpus, reaches = GPUS[:count], without(missing)
    found = [(cell.row, cell.column) for cell in plan(case, gpus, reaches, NBYTES)]
    assert found == sorted(set(found))

    def mapped(one: int, other: int) -> bool:
        return one != other and reaches(gpus[one], gpus[other]) and reaches(gpus[other], gpus[one])

    every = range(count)
    if case.square:
        assert set(found) == {(one, other) for one in every for other in every if mapped(one, other)}
    elif case.needs_peers:
        assert set(found) == {(0, one) for one in every if any(mapped(one, other) for other in every)}
    else:
        assert set(found) == {(0, one) for one in every}


@given(cases, st.integers(2, 8))
def test_who_works_is_a_gpu_of_the_transfer_and_reads_or_writes_as_the_name_says(case: Case, count: int) -> None:
    for cell in plan(case, GPUS[:count], everyone, NBYTES):
        for one in cell.transfers:
            assert one.worker_end in (one.source, one.target)
            assert one.worker_end != HOST
            assert one.engine == case.engine
            if "_write_" in case.name and case.needs_peers:
                assert one.worker_end == one.source
            if "_read_" in case.name and case.needs_peers:
                assert one.worker_end == one.target


@pytest.mark.parametrize("engine", ["ce", "sm", "tma"])
def test_the_row_reads_from_the_column_or_writes_to_it(engine: str) -> None:
    """DeviceToDeviceReadCE copies from the peer into the row's GPU, in the row's context."""
    read = {(cell.row, cell.column): cell for cell in cells(f"device_to_device_memcpy_read_{engine}")}[(1, 2)]
    write = {(cell.row, cell.column): cell for cell in cells(f"device_to_device_memcpy_write_{engine}")}[(1, 2)]
    assert (flows(read), read.transfers[0].worker_end) == ([(GPUS[2], GPUS[1], 1)], GPUS[1])
    assert (flows(write), write.transfers[0].worker_end) == ([(GPUS[1], GPUS[2], 1)], GPUS[1])
    assert (read.source, read.target) == (2, 1)
    assert (write.source, write.target) == (1, 2)


@pytest.mark.parametrize(("access", "workers"), [("read", (1, 2)), ("write", (2, 1))])
def test_both_ways_are_measured_in_every_cell(access: str, workers: tuple[int, int]) -> None:
    found = cells(f"device_to_device_bidirectional_memcpy_{access}_ce")
    assert len(found) == 12
    cell = {(cell.row, cell.column): cell for cell in found}[(1, 2)]
    assert cell.figure == "each"
    assert flows(cell) == [(GPUS[2], GPUS[1], 1), (GPUS[1], GPUS[2], 1)]
    assert tuple(one.worker_end for one in cell.transfers) == tuple(GPUS[number] for number in workers)


def test_what_only_loads_the_links_is_twice_as_large() -> None:
    one = cells("host_to_device_bidirectional_memcpy_ce")[1]
    assert flows(one) == [(HOST, GPUS[1], 1), (GPUS[1], HOST, 2)]
    all_out = cells("all_to_host_memcpy_ce", 3)[1]
    assert flows(all_out) == [(GPUS[1], HOST, 1), (GPUS[0], HOST, 2), (GPUS[2], HOST, 2)]
    all_both = cells("host_to_all_bidirectional_memcpy_ce", 2)[1]
    assert flows(all_both) == [(HOST, GPUS[1], 1), (GPUS[1], HOST, 2), (HOST, GPUS[0], 2), (GPUS[0], HOST, 2)]
    assert {cell.figure for cell in (one, all_out, all_both)} == {"first"}


def test_kernels_go_both_ways_to_the_host_by_themselves() -> None:
    cell = cells("all_to_host_bidirectional_memcpy_sm", 3)[2]
    assert cell.figure == "half"
    assert flows(cell) == [(GPUS[2], HOST, 1), (GPUS[0], HOST, 1), (GPUS[1], HOST, 1)]
    assert {one.work for one in cell.transfers} == {"exchange"}


@pytest.mark.parametrize("engine", ["ce", "sm"])
@pytest.mark.parametrize(
    ("name", "inbound"),
    [("all_to_one_write", True), ("all_to_one_read", False), ("one_to_all_write", False), ("one_to_all_read", True)],
)
def test_all_peers_of_one_at_once(name: str, inbound: bool, engine: str) -> None:
    """all_to_one_read is outbound: the peers read what the one has (allToOneHelper with isRead)."""
    cell = cells(f"{name}_{engine}", 3)[1]
    assert cell.figure == "total"
    peers = [GPUS[0], GPUS[2]]
    assert flows(cell) == [(peer, GPUS[1], 1) if inbound else (GPUS[1], peer, 1) for peer in peers]
    assert (cell.source, cell.target) == (("all", 1) if inbound else (1, "all"))


def test_latency_is_that_of_the_row_in_the_columns_memory() -> None:
    cell = cells("device_to_device_latency_sm", 2)[0]
    assert (cell.row, cell.column, cell.source, cell.target) == (0, 1, 0, 1)
    assert flows(cell) == [(GPUS[0], GPUS[1], 2)]
    host = cells("host_device_latency_sm", 2)[1]
    assert (host.transfers[0].worker_end, host.target) == (GPUS[1], None)
