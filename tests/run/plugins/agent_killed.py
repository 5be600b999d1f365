"""A pytest plugin for whole-run tests: as a test begins, the process of the agent is killed that its worker is a child
of."""

from __future__ import annotations

import pytest

from tests.support.killing import kill_agent


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    item.funcargs["worker"].run(kill_agent)  # type: ignore[attr-defined]
