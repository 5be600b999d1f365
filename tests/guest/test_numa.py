"""Processors of a NUMA node: files as the kernel has them, and this process's own affinity."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from dmaproof import cpulist
from dmaproof.errors import DmaproofError
from dmaproof.guest import numa


@pytest.fixture
def nodes(tmp_path: Path) -> Path:
    """Node 0 has one of our processors, 1 has none, 2 has one that no machine has."""
    for number, listed in enumerate((f"{min(os.sched_getaffinity(0))}\n", "\n", "8191\n")):
        (tmp_path / f"node{number}").mkdir()
        (tmp_path / f"node{number}/cpulist").write_text(listed)
    return tmp_path


def test_what_is_started_meanwhile_is_there_and_we_are_not_for_long(nodes: Path) -> None:
    before = os.sched_getaffinity(0)
    with numa.on(0, nodes):
        child = subprocess.run(["/bin/cat", "/proc/self/status"], capture_output=True, text=True, check=True)
    assert os.sched_getaffinity(0) == before
    (allowed,) = (line.split()[1] for line in child.stdout.splitlines() if line.startswith("Cpus_allowed_list"))
    assert cpulist.parse(allowed) == {min(before)}


def test_without_a_node_nothing_changes(nodes: Path) -> None:
    before = os.sched_getaffinity(0)
    with numa.on(None, nodes):
        assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize("number", [1, 3])
def test_a_node_without_processors_is_refused_with_those_that_have_some(nodes: Path, number: int) -> None:
    told = rf"guest.numa_node = {number}: no such node has processors here; those with some: 0, 2$"
    with pytest.raises(DmaproofError, match=told), numa.on(number, nodes):
        pytest.fail("is on it")


def test_processors_that_are_not_ours_are_refused(nodes: Path) -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(DmaproofError, match=r"guest.numa_node = 2: .*Invalid argument"), numa.on(2, nodes):
        pytest.fail("is on it")
    assert os.sched_getaffinity(0) == before
