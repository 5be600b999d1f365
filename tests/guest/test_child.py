"""Commands on a leash."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dmaproof.errors import DmaproofError, UsageError
from dmaproof.guest import child
from dmaproof.node.deadline import Deadline


def run(tmp_path: Path, script: str, timeout_s: float = 20.0) -> str:
    return child.run(["sh", "-c", script], tmp_path / "log", Deadline.after(timeout_s))


def test_all_that_is_said_comes_back_and_is_kept_line_by_line(tmp_path: Path) -> None:
    lines: list[str] = []
    log = tmp_path / "log"
    log.write_text("before\n")
    script = "echo one; echo two >&2; printf '\\377three'"
    said = child.run(["sh", "-c", script], log, Deadline.after(20), line=lines.append)
    assert said == "one\ntwo\n\ufffdthree"
    assert log.read_bytes() == b"before\none\ntwo\n\xffthree"
    assert lines == ["one", "two"]


def test_a_failure_tells_the_last_lines_and_where_the_rest_is(tmp_path: Path) -> None:
    with pytest.raises(DmaproofError) as caught:
        run(tmp_path, "for i in 1 2 3 4 5 6 7 8; do echo line $i; done; exit 3")
    assert "failed (exit status 3): line 3 | line 4 | line 5 | line 6 | line 7 | line 8" in str(caught.value)
    assert str(caught.value).endswith(f"see {tmp_path}/log")


def test_a_signal_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(DmaproofError, match="exit status 139"):
        run(tmp_path, "kill -SEGV $$")


def test_a_deadline_ends_the_command_and_what_it_started(tmp_path: Path) -> None:
    began_s = time.monotonic()
    with pytest.raises(UsageError, match=r"sh was not done within 1 s; what it said is in .*log"):
        run(tmp_path, f"sleep 300 & echo $! > {tmp_path}/pid; wait", timeout_s=1.0)
    assert time.monotonic() - began_s < 10
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/exe").exists()


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such-a-program on PATH"):
        child.run(["such-a-program"], tmp_path / "log", Deadline.after(20))


def test_what_a_command_left_running_ends_with_it(tmp_path: Path) -> None:
    run(tmp_path, f"sleep 300 >/dev/null 2>&1 & echo $! > {tmp_path}/pid")
    until = time.monotonic() + 10
    while Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/exe").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
