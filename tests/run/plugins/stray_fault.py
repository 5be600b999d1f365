"""A pytest plugin for whole-run tests: while a test works, the node's kernel log reports a fault of gpu0."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from fixtures.state import RUN

LINE = "DMAR: [DMA Write NO_PASID] Request device [04:00.0] fault addr 0xdead0000 [fault reason 0x05] PTE Write access"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    try:
        return (yield)
    finally:
        for node in item.config.stash[RUN].nodes.values():
            with (node.root / "dev/kmsg").open("a") as log:
                log.write(f"4,100000,{time.monotonic_ns() // 1000},-;{LINE}\n")
