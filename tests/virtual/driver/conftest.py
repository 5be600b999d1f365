"""Machines for the driver's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.virtual.driver.thread_machine import Machine


@pytest.fixture
def machine_of(tmp_path: Path) -> Iterator[Callable[[str], Machine]]:
    """``machine_of(rig)``: a machine of that rig, gone after the test."""
    with ExitStack() as stack:
        yield lambda rig: stack.enter_context(closing(Machine(tmp_path, rig)))


@pytest.fixture
def hgx(machine_of: Callable[[str], Machine]) -> Machine:
    """Eight GPUs, NVLink, HMM."""
    return machine_of("virtual:hgx-h100")


@pytest.fixture
def pair(machine_of: Callable[[str], Machine]) -> Machine:
    """Two GPUs, PCIe peers, no HMM."""
    return machine_of("virtual:pcie-pair")
