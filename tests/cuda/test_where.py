"""Where the kernel says that pages are."""

from __future__ import annotations

import mmap

import numpy as np
import pytest

from dmaproof.cuda.unified import where
from dmaproof.cuda.unified.where import Pages

PAGE = mmap.PAGESIZE


class Gpu:
    """As much of a device as is asked: its memory's NUMA node, if it is one."""

    def __init__(self, node: int | None) -> None:
        self.attributes = {"NUMA_CONFIG": 0 if node is None else 1, "NUMA_ID": node}

    def attribute(self, name: str) -> int | None:
        return self.attributes[name]


@pytest.fixture
def mapping():
    """Four pages, of which the second has been written."""
    with mmap.mmap(-1, 4 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory[PAGE] = 1
        yield np.frombuffer(memory, np.uint8).ctypes.data


@pytest.fixture(autouse=True)
def _kernel_tells(mapping) -> None:
    if told(None, mapping, PAGE * 2).untold:
        pytest.skip("move_pages(2) is not to be had here")


def told(node: int | None, address: int, nbytes: int) -> Pages:
    return where.pages(Gpu(node), address, nbytes)  # type: ignore[arg-type]


def test_a_page_is_on_a_node_once_it_is_written(mapping) -> None:
    pages = told(None, mapping, 4 * PAGE)
    assert (pages.total, sum(pages.nodes.values()), pages.absent, pages.untold) == (4, 1, 3, 0)
    assert pages.on_gpu is None
    assert "no NUMA node" in str(pages)


def test_a_range_touches_every_page_that_it_begins_or_ends_in(mapping) -> None:
    pages = told(None, mapping + PAGE - 4, PAGE + 8)
    assert (pages.total, sum(pages.nodes.values())) == (3, 1)


def test_pages_on_the_gpus_node_are_the_gpus(mapping) -> None:
    (node,) = told(None, mapping, 4 * PAGE).nodes
    assert told(node, mapping, 4 * PAGE).on_gpu == 1
    assert told(node + 1, mapping, 4 * PAGE).on_gpu == 0


def test_no_mapping_is_neither_absent_nor_anywhere(mapping) -> None:
    pages = told(None, 0, PAGE)
    assert (pages.nodes, pages.absent, pages.untold) == ({}, 0, 1)
