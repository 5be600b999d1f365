"""nvbandwidth's test cases: which cells each has, what runs at once in a cell, and which of that is its figure.

A pure plan over PCI addresses. Names and semantics are those of NVIDIA/nvbandwidth (testcases_ce.cpp, testcases_sm.cpp,
testcase.cpp of v0.8; the ``_tma`` and ``device_local_*_sm`` cases as v0.10 lists them). Where a case there does
something else than it says it does, it is planned here as it says: docs/nvbandwidth.md has the list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from dmaproof.cuda.copies import HOST, Engine, Initiator, Transfer

Kind = Literal["host", "pairs", "all_to_one", "one_to_all", "local", "host_latency", "pair_latency"]
Figure = Literal["first", "total", "each", "half", "latency"]
"""``first``: of the first transfer alone. ``total``: all bytes over the time until the last has arrived. ``each``: of
both, and their sum. ``half``: of one direction of a kernel that moves half its bytes each way."""
Reaches = Callable[[str, str], bool]
"""``reaches(accessor, owner)``: whether the one GPU can map the other's memory."""
ALL: Literal["all"] = "all"
"""In place of an end's name: all peers of the other end."""
BUFFER_NBYTES, CHAIN_NBYTES = 512 << 20, 2 << 20
_INTERFERENCE = 2
"""Copies that only load the links are this many times as large: they must outlast the one that is measured."""


@dataclass(frozen=True, slots=True)
class Case:
    """One test case. ``way`` is the data's direction of host cases, ``initiator`` which end's GPU works in peer cases;
    ``both_ways``: the other direction runs at the same time; ``all_links``: so do all other GPUs' links to the host;
    ``work``: what a kernel does within one GPU's memory."""

    name: str
    kind: Kind
    engine: Engine
    way: Literal["h2d", "d2h"] = "h2d"
    initiator: Initiator = "source"
    both_ways: bool = False
    all_links: bool = False
    work: Literal["copy", "read", "write"] = "copy"

    @property
    def square(self) -> bool:
        """Whether the matrix has a row for each GPU; others have one row."""
        return self.kind in ("pairs", "pair_latency")

    @property
    def needs_peers(self) -> bool:
        return self.kind in ("pairs", "all_to_one", "one_to_all", "pair_latency")

    @property
    def unit(self) -> Literal["GB/s", "ns"]:
        return "ns" if self.kind.endswith("latency") else "GB/s"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a case's matrix, by GPU numbers (``row`` 0 where there is one row). ``transfers`` run at once.

    ``source`` and ``target`` are the GPU numbers of the figure's ends, None for the host, ALL for every peer.
    """

    row: int
    column: int
    transfers: tuple[Transfer, ...]
    figure: Figure
    source: int | Literal["all"] | None
    target: int | Literal["all"] | None


def _host(engine: Engine) -> Iterator[Case]:
    ends: tuple[tuple[Literal["h2d", "d2h"], str], ...] = (("h2d", "host_to_device"), ("d2h", "device_to_host"))
    for way, name in ends:
        yield Case(f"{name}_memcpy_{engine}", "host", engine, way)
    for way, name in ends:
        yield Case(f"{name}_bidirectional_memcpy_{engine}", "host", engine, way, both_ways=True)


def _all_host(engine: Engine) -> Iterator[Case]:
    ends: tuple[tuple[Literal["h2d", "d2h"], str], ...] = (("d2h", "all_to_host"), ("h2d", "host_to_all"))
    for way, name in ends:
        yield Case(f"{name}_memcpy_{engine}", "host", engine, way, all_links=True)
        yield Case(f"{name}_bidirectional_memcpy_{engine}", "host", engine, way, both_ways=True, all_links=True)


def _pairs(engine: Engine) -> Iterator[Case]:
    for both_ways in (False, True):
        for initiator, access in _ACCESS[::-1]:
            name = f"device_to_device_{'bidirectional_' if both_ways else ''}memcpy_{access}_{engine}"
            yield Case(name, "pairs", engine, initiator=initiator, both_ways=both_ways)


def _one(engine: Engine) -> Iterator[Case]:
    """Whoever the ``one`` is, a write is done by the GPU that has the data, a read by the one that gets it."""
    kinds: tuple[Kind, ...] = ("all_to_one", "one_to_all")
    for kind in kinds:
        for initiator, access in _ACCESS:
            yield Case(f"{kind}_{access}_{engine}", kind, engine, initiator=initiator)


_ACCESS: tuple[tuple[Initiator, str], ...] = (("source", "write"), ("target", "read"))
_COPIES: tuple[Engine, ...] = ("ce", "sm")

CASES: tuple[Case, ...] = (
    *(case for engine in _COPIES for case in (*_host(engine), *_pairs(engine), *_all_host(engine), *_one(engine))),
    Case("host_device_latency_sm", "host_latency", "sm"),
    Case("device_to_device_latency_sm", "pair_latency", "sm"),
    *_pairs("tma"),
    Case("device_local_copy", "local", "ce"),
    Case("device_local_copy_sm", "local", "sm"),
    Case("device_local_read_sm", "local", "sm", work="read"),
    Case("device_local_write_sm", "local", "sm", work="write"),
    Case("device_to_device_latency_tma", "pair_latency", "tma"),
    Case("device_local_copy_tma", "local", "tma"),
)
"""In nvbandwidth's order, which is also their number there (v0.10)."""
BY_NAME = {case.name: case for case in CASES}


def plan(case: Case, gpus: Sequence[str], reaches: Reaches, nbytes: int = BUFFER_NBYTES) -> tuple[Cell, ...]:
    """The cells of ``case`` on ``gpus``, row by row. Pairs that cannot reach each other both ways have none."""
    mapped = _both(reaches)
    cells = {
        "host": _host_cells,
        "pairs": _pair_cells,
        "all_to_one": _one_cells,
        "one_to_all": _one_cells,
        "local": _local_cells,
        "host_latency": _host_latency_cells,
        "pair_latency": _pair_latency_cells,
    }[case.kind]
    return tuple(cells(case, gpus, mapped, nbytes))


def cell_of(case: Case, source: str, target: str) -> tuple[str | None, str]:
    """Row and column, by the names of their GPUs, of the cell whose figure goes from ``source`` to ``target``; the row
    is None where there is one row. The ends are names of GPUs, HOST, or ALL."""
    if not case.square:
        return None, target if source in (HOST, ALL) else source
    backwards = case.kind == "pairs" and (case.both_ways or case.initiator == "target")
    return (target, source) if backwards else (source, target)


def _both(reaches: Reaches) -> Reaches:
    """Peer access is switched on in both contexts (DeviceBuffer::enablePeerAcess)."""
    return lambda one, other: reaches(one, other) and reaches(other, one)


def _host_cells(case: Case, gpus: Sequence[str], _mapped: Reaches, nbytes: int) -> Iterator[Cell]:
    for column, gpu in enumerate(gpus):
        others = [other for other in gpus if other != gpu] if case.all_links else []
        ends = (None, column) if case.way == "h2d" else (column, None)
        if case.both_ways and case.engine == "sm":
            yield Cell(0, column, tuple(_exchange(case, one, nbytes) for one in (gpu, *others)), "half", *ends)
            continue
        ways = [case.way == "h2d", case.way != "h2d"] if case.both_ways else [case.way == "h2d"]
        flows = [(one, way) for one in (gpu, *others) for way in ways]
        sizes = [nbytes, *[_INTERFERENCE * nbytes] * (len(flows) - 1)]
        transfers = [_to_or_from(*flow, size, case.engine) for flow, size in zip(flows, sizes, strict=True)]
        yield Cell(0, column, tuple(transfers), "first", *ends)


def _to_or_from(gpu: str, to_gpu: bool, nbytes: int, engine: Engine) -> Transfer:
    source, target = (HOST, gpu) if to_gpu else (gpu, HOST)
    return Transfer(source, target, engine, nbytes)


def _exchange(case: Case, gpu: str, nbytes: int) -> Transfer:
    """One kernel both reads and writes host memory: every other warp copies the other way."""
    source, target = (HOST, gpu) if case.way == "h2d" else (gpu, HOST)
    return Transfer(source, target, case.engine, nbytes, work="exchange")


def _pair_cells(case: Case, gpus: Sequence[str], mapped: Reaches, nbytes: int) -> Iterator[Cell]:
    """One way, the row's GPU works: it writes to the column's, or reads from it. Both ways, the row's data come first
    from the column, and back at the same time."""
    for row, column in _ordered(gpus, mapped):
        here, there = gpus[row], gpus[column]
        towards = case.initiator == "source" and not case.both_ways
        source, target = (here, there) if towards else (there, here)
        first = Transfer(source, target, case.engine, nbytes, initiator=case.initiator)
        ends = (row, column) if towards else (column, row)
        if case.both_ways:
            back = Transfer(target, source, case.engine, nbytes, initiator=case.initiator)
            yield Cell(row, column, (first, back), "each", *ends)
        else:
            yield Cell(row, column, (first,), "first", *ends)


def _ordered(gpus: Sequence[str], mapped: Reaches) -> Iterator[tuple[int, int]]:
    for row, here in enumerate(gpus):
        for column, there in enumerate(gpus):
            if row != column and mapped(here, there):
                yield row, column


def _one_cells(case: Case, gpus: Sequence[str], mapped: Reaches, nbytes: int) -> Iterator[Cell]:
    """``all_to_one`` in its read form, and ``one_to_all`` in its write form, move data out of the one: the names say
    who starts at whom, the descriptions (inbound, outbound) where the data goes."""
    inbound = (case.kind == "all_to_one") == (case.initiator == "source")
    for column, one in enumerate(gpus):
        peers = [other for other in gpus if other != one and mapped(one, other)]
        ends = [(peer, one) if inbound else (one, peer) for peer in peers]
        transfers = tuple(Transfer(*pair, case.engine, nbytes, initiator=case.initiator) for pair in ends)
        if transfers:
            yield Cell(0, column, transfers, "total", *((ALL, column) if inbound else (column, ALL)))


def _local_cells(case: Case, gpus: Sequence[str], _mapped: Reaches, nbytes: int) -> Iterator[Cell]:
    for column, gpu in enumerate(gpus):
        yield Cell(0, column, (Transfer(gpu, gpu, case.engine, nbytes, work=case.work),), "first", column, column)


def _host_latency_cells(case: Case, gpus: Sequence[str], _mapped: Reaches, _nbytes: int) -> Iterator[Cell]:
    for column, gpu in enumerate(gpus):
        chase = Transfer(gpu, HOST, case.engine, CHAIN_NBYTES, work="chase")
        yield Cell(0, column, (chase,), "latency", column, None)


def _pair_latency_cells(case: Case, gpus: Sequence[str], mapped: Reaches, _nbytes: int) -> Iterator[Cell]:
    """The row's GPU follows pointers in the column's memory."""
    for row, column in _ordered(gpus, mapped):
        chase = Transfer(gpus[row], gpus[column], case.engine, CHAIN_NBYTES, work="chase")
        yield Cell(row, column, (chase,), "latency", row, column)
