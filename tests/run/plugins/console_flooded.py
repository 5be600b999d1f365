"""A pytest plugin for whole-run tests: a lab host floods its console as the first test ends, which then fails."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dmaproof.guest import shell


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    yield
    worker = getattr(item, "funcargs", {})["worker"]
    flood = "setsid sh -c 'while :; do cat /proc/cpuinfo; done' >/dev/console 2>&1 & sleep 5"  # it has to show
    assert worker.run(shell.run, argv=["sh", "-c", flood], folder="/").status == 0
    raise AssertionError("on purpose")
