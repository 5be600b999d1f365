"""The kernel's selftests: which there are, and how one is run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dmaproof.errors import Unsupported, UsageError
from dmaproof.guest import selftests
from dmaproof.guest.selftest_run import run


def test_programs_are_those_of_the_makefile() -> None:
    assert selftests.programs(
        "CFLAGS += -O2\nTEST_GEN_PROGS :=\nTEST_GEN_PROGS += iommufd\nTEST_GEN_PROGS = a b\n"
        "$(TEST_GEN_PROGS): x\n\tcc\nTEST_GEN_PROGS_O = c\n"
    ) == ("iommufd", "a", "b")


def test_nothing_built_yet(cache: Path) -> None:
    with pytest.raises(UsageError, match="run `dmaproof lab selftests`"):
        selftests.built()


def program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_a_run_tells_output_and_status(tmp_path: Path) -> None:
    ran = run(program(tmp_path / "t", 'echo "ok 1 $1"; echo bad >&2; exit 3'), ["case"], [], 20.0)
    assert (ran.output, ran.status) == ("ok 1 case\nbad\n", 3)


def test_one_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    began_s = time.monotonic()
    ran = run(program(tmp_path / "t", f"echo begun; sleep 300 & echo $! > {tmp_path}/pid; wait"), [], [], 1.0)
    assert time.monotonic() - began_s < 10
    assert (ran.output, ran.status) == ("begun\n", None)
    until = time.monotonic() + 5
    while Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/exe").exists():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_one_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="build it with `dmaproof lab selftests`"):
        run(str(tmp_path / "none"), [], [], 1.0)
