"""A pytest plugin: Ctrl-C comes while the first test is torn down, and in between an ``open`` and its ``with``."""

from __future__ import annotations

import signal
from pathlib import Path


def pytest_runtest_teardown() -> None:
    Path(__file__).open(encoding="utf-8")  # noqa: SIM115 that nobody closes it is the point
    signal.raise_signal(signal.SIGINT)
