"""The smallest workload: what a call costs when the work costs nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Echo:
    value: int


def echo(value: int) -> Echo:
    return Echo(value)
