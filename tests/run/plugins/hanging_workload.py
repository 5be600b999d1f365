"""A pytest plugin for whole-run tests: the first workload of gpu0 is replaced by one that really hangs.

``DMAPROOF_TEST_HANG`` names it (``mutex_deadlock``, ``spin_holding_the_gil``, ``read_file``), after a colon its path.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.node import planted


@pytest.fixture(autouse=True)
def _hang(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "test_local_copy[host-gpu0-ce]" not in request.node.nodeid:
        return
    from fixtures.worker import Bench  # not before the project's own conftest has loaded it as a plugin

    name, _, path = os.environ["DMAPROOF_TEST_HANG"].partition(":")
    run = Bench.run

    def run_what_hangs(bench: Bench, _workload: Callable[..., Any], /, **_kwargs: Any) -> Any:
        return run(bench, getattr(planted, name), **({"path": path} if path else {}))

    monkeypatch.setattr(Bench, "run", run_what_hangs)
