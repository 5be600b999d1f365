"""A pytest plugin for whole-run tests: says which process did a test's work, for tests whose work was begun."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[Any]:
    from fixtures.state import LOG  # not before the project's own conftest has loaded its plugins

    workers: Callable[[str], Any] = item.funcargs["warm_workers"]
    try:
        return (yield)
    finally:
        log = item.stash[LOG]
        if log.worked:
            print(f"\nworker of {item.nodeid}: {workers(log.node).worked_pid}")  # noqa: T201 - read by the test
