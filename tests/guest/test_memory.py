"""What a guest's memory is made of, and how large its window for BARs is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dmaproof.guest.memory import Pages, options, pages, spread
from dmaproof.guest.window import DEFAULT_NBYTES, GIB, window_nbytes
from dmaproof.rig.hardware import Endpoint, Guest, Qemu
from dmaproof.rig.model import Node

MIB = 1 << 20
BARS = st.lists(st.integers(12, 40).map(lambda power: 1 << power), min_size=1, max_size=3)


def node(guest: Guest | None, *numa_nodes: int) -> Node:
    ends = {
        f"edu{n}": Endpoint(kind="edu", bdf=f"{n + 1:02x}:00.0", port=f"{n + 0x80:02x}:10.0", numa_node=numa)
        for n, numa in enumerate(numa_nodes)
    }
    return Node(name="one", endpoint=ends, guest=guest, qemu=Qemu(cpus=3, memory_nbytes=0x60200000))


def said(one: Node) -> list[str]:
    assert one.qemu is not None
    return list(options(one, one.qemu))


def test_without_a_claim_memory_is_qemus_own_affair() -> None:
    assert said(node(None)) == said(node(Guest(on="host"))) == ["-m", "1538M"]
    assert pages(node(None)) is pages(node(Guest(on="host", numa_node=3))) is None


def test_huge_pages_are_all_taken_at_once() -> None:
    one = node(Guest(on="host", hugepage_nbytes=2 * MIB))
    backend = "memory-backend-memfd,id=ram,size=1538M,share=on,hugetlb=on,hugetlbsize=2097152,prealloc=on"
    assert said(one) == ["-m", "1538M", "-object", backend, "-machine", "memory-backend=ram"]
    assert pages(one) == Pages(2 * MIB, 769, None)


def test_memory_is_bound_to_a_node_of_the_system_that_the_guest_is_on() -> None:
    one = node(Guest(on="host", numa_node=7))
    backend = "memory-backend-memfd,id=ram,size=1538M,share=on,host-nodes=7,policy=bind"
    assert said(one) == ["-m", "1538M", "-object", backend, "-machine", "memory-backend=ram"]


def test_a_guests_own_numa_nodes_share_what_it_has() -> None:
    one = node(Guest(on="host", hugepage_nbytes=2 * MIB, numa_node=1), 0, 1)
    place = "share=on,hugetlb=on,hugetlbsize=2097152,prealloc=on,host-nodes=1,policy=bind"
    assert said(one) == [
        *("-m", "1538M"),
        *("-object", f"memory-backend-memfd,id=numa0,size=770M,{place}"),
        *("-numa", "node,nodeid=0,cpus=0,cpus=1,memdev=numa0"),
        *("-object", f"memory-backend-memfd,id=numa1,size=768M,{place}"),
        *("-numa", "node,nodeid=1,cpus=2,memdev=numa1"),
    ]
    assert pages(one) == Pages(2 * MIB, 769, 1)


@given(st.integers(1, 1 << 20), st.integers(1, 128), st.sampled_from([1, 2, 512, 1024]))
def test_memory_that_is_spread_is_all_there_in_whole_pages(count: int, parts: int, unit: int) -> None:
    nbytes = count * unit
    shares = spread(nbytes, parts, unit)
    assert sum(shares) == nbytes
    assert len(shares) == parts
    assert all(one % unit == 0 for one in shares)
    assert all(one > 0 for one in shares) == (count >= parts)
    assert shares[0] - min(shares) < parts * unit


@given(st.lists(BARS, min_size=1, max_size=8), st.integers(1, 4096))
def test_wherever_a_window_begins_the_bars_fit_behind_their_ports(devices: list[list[int]], first_gib: int) -> None:
    begin = first_gib * GIB
    at = begin
    for bars in sorted(devices, key=max, reverse=True):  # as SeaBIOS does: the largest alignment first
        inside = at = at + -at % max(bars)
        for bar in sorted(bars, reverse=True):
            assert inside % bar == 0
            inside += bar
        at = inside + -inside % max(bars)
    assert at <= begin + window_nbytes(devices)


def test_the_window_of_eight_gpus() -> None:
    one = [16 * MIB, 128 * GIB, 32 * MIB]  # an H100's: its port's window is 256 GiB, and nothing is aligned before it
    assert window_nbytes([one] * 8) == (8 * 256 + 128) * GIB
    assert window_nbytes([[16 * MIB, 256 * MIB, 32 * MIB]]) < DEFAULT_NBYTES
    assert window_nbytes([]) == window_nbytes([[], []]) == 0
