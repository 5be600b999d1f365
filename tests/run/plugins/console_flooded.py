"""A pytest plugin for whole-run tests: a lab host floods its console as the first test ends, which then fails."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from dmaproof.guest import shell
from dmaproof.guest.folder import CONSOLE
from fixtures.state import RUN


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    yield
    worker = getattr(item, "funcargs", {})["worker"]
    agent = item.config.stash[RUN].nodes["host"].agent
    console = agent.parent / CONSOLE
    before = console.stat().st_size
    flood = "setsid sh -c 'while :; do cat /proc/cpuinfo; done' >/dev/console 2>&1 &"
    assert worker.run(shell.run, argv=["sh", "-c", flood], folder="/").status == 0
    until = time.monotonic() + 60
    while console.stat().st_size < before + 16384:  # it has to show, on a machine that others use too
        assert time.monotonic() < until, f"after a minute the console has {console.stat().st_size - before} bytes more"
        time.sleep(0.1)
    raise AssertionError("on purpose")
