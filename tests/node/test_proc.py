"""What is read from /proc about processes and threads."""

from __future__ import annotations

import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmaproof.node import proc, tasks
from tests.support.harness import eventually

MAPS = (
    "55d4c0a00000-55d4c0a21000 r--p 00000000 fe:00 131 /usr/bin/python3.11",
    "7f316c41e000-7f316c5a1000 r-xp 00026000 fe:00 262 /usr/lib/libc.so.6 (deleted)",
    "7f3170000000-7f3170021000 rw-p 00000000 00:00 0 ",
)


@pytest.mark.parametrize(
    ("syscall", "place"),
    [
        ("202 0x1 0x2 0x0 0x0 0x0 0x0 0x7ffc83ac1d80 0x7f316c4a3f16", "libc.so.6 (deleted)+0xabf16"),
        ("-1 0x7ffc83ac1d80 0x7f3170000010", "anonymous memory+0x10"),
        ("202 0x0 0x0 0x0 0x0 0x0 0x0 0x7ffc83ac1d80 0x7f3170021000", ""),
        ("running", ""),
        ("not readable: Operation not permitted", ""),
    ],
)
def test_the_program_counter_is_told_as_file_and_offset(syscall: str, place: str) -> None:
    assert tasks.locate(syscall, MAPS) == place


@given(st.text())
def test_no_syscall_line_is_too_strange(text: str) -> None:
    assert isinstance(tasks.locate(text, MAPS), str)


def test_all_threads_of_a_process_are_seen() -> None:
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        try:
            assert eventually(lambda: tasks.sample(sleeper.pid)[0].wchan not in ("", "0"))
            (task,) = tasks.sample(sleeper.pid)
            assert (task.tid, task.comm, task.state) == (sleeper.pid, "sleep", "S")
            assert task.place == task.wchan
            assert task.code.startswith(("libc", "ld"))
            assert tasks.moved([task], tasks.sample(sleeper.pid)) == ()
        finally:
            sleeper.kill()


def test_a_process_is_there_until_it_has_ended_and_a_zombie_has() -> None:
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        started = proc.start_time(sleeper.pid)
        assert started is not None
        assert proc.state(sleeper.pid, started) in ("S", "R", "D")
        sleeper.kill()
        os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # a zombie now: nobody has asked for its status
        assert proc.state(sleeper.pid, started) is None
    assert proc.start_time(sleeper.pid) is None


def test_a_process_that_has_taken_the_number_of_another_is_not_that_one() -> None:
    started = proc.start_time(os.getpid())
    assert started is not None
    assert proc.state(os.getpid(), started) is not None
    assert proc.state(os.getpid(), started + 1) is None
