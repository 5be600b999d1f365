"""A pytest plugin for whole-run tests: edu1 of a lab host is taken off its bus as the test ends, which then fails."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dmaproof.guest import shell

BDF = "0000:02:00.0"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    yield
    worker = getattr(item, "funcargs", {})["worker"]
    remove = f"echo 1 >/sys/bus/pci/devices/{BDF}/remove"
    assert worker.run(shell.run, argv=["sh", "-c", remove], folder="/").status == 0
    raise AssertionError("on purpose")
