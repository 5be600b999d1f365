"""Whole runs of the suites, as a person starts them: a process, its exit status, what it printed and left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from dmaproof.report.stream import Record, read

ROOT = Path(__file__).parents[2]
LIMIT_S = 240
PATIENCE = "--deadline-scale=5"
"""For the runs in which nothing hangs: beside another test's run, on a machine that has other work too, a workload may
take much longer than its rig allows. Those that are about hangs say how long they want to wait."""


@dataclass(frozen=True)
class Finished:
    """A run that is over: ``folder`` is its run folder, or None where it made none."""

    status: int
    output: str
    folder: Path | None

    @property
    def record(self) -> Record:
        assert self.folder is not None, self.output
        return read(self.folder / "record.jsonl")

    @property
    def outcomes(self) -> dict[str, str]:
        return {test.id: test.outcome for test in self.record.tests}

    @property
    def signatures(self) -> set[str]:
        return {verdict.signature for verdict in self.record.verdicts}


class Started:
    """A run under way."""

    def __init__(self, args: tuple[str, ...], reports: Path, env: Mapping[str, str]) -> None:
        self.reports = reports
        self.log = reports.parent / f"{reports.name}.log"
        self._out = self.log.open("w")
        options = ["-p", "no:cacheprovider", f"--reports={reports}", PATIENCE]
        command = [sys.executable, "-m", "pytest", *options, *args]  # of an option given twice, the last one counts
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=self._out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **env},
        )

    def finish(self) -> Finished:
        try:
            status = self.process.wait(LIMIT_S)
        finally:
            self.kill()
        latest = self.reports / "latest"
        return Finished(status, self.log.read_text(), latest.resolve() if latest.exists() else None)

    def wait_for(self, form: str, timeout_s: float = LIMIT_S) -> None:
        """Wait until the run has printed something."""
        end = time.monotonic() + timeout_s
        while not re.search(form, self.log.read_text()):
            assert time.monotonic() < end, f"no {form!r} in:\n{self.log.read_text()}"
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self._out.close()


Start = Callable[..., Started]
RunSuites = Callable[..., Finished]
Left = Callable[[Finished], list[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start(*pytest_arguments)`` begins a run whose reports go to a folder of its own."""
    runs: list[Started] = []

    def begin(*args: str, reports: Path | None = None, env: Mapping[str, str] | None = None) -> Started:
        runs.append(Started(args, reports or tmp_path / f"runs{len(runs)}", env or {}))
        return runs[-1]

    yield begin
    for one in runs:
        one.kill()


@pytest.fixture
def run_suites(start: Start) -> RunSuites:
    return lambda *args, **more: start(*args, **more).finish()


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """The temp folder of a run that ``begin`` begins."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


@pytest.fixture
def begin(start: Start, scratch: Path) -> Start:
    """``begin(*pytest_arguments)``: as ``start``, with the rig's own deadlines and a temp folder to look into."""
    return lambda *args: start("--deadline-scale=1", *args, env={"TMPDIR": str(scratch)})


@pytest.fixture
def gone(scratch: Path, nothing_left: Left) -> Left:
    """What is left of a run: processes, and what is in its temp folder but for pytest's own (of xdist)."""

    def left(run: Finished) -> list[str]:
        processes, until = nothing_left(run), time.monotonic() + 10
        while (files := [*map(str, _not_of_pytest(scratch))]) and time.monotonic() < until:
            time.sleep(0.1)
        return [*processes, *files]

    return left


def _not_of_pytest(folder: Path) -> Iterator[Path]:
    return (one for one in folder.iterdir() if not one.name.startswith("pytest-"))


def assert_interrupted_with_reports(run: Finished) -> None:
    """The run was ended early, says so, and is reported all the same."""
    assert run.status == 2
    assert run.record.end is not None
    assert run.record.end.note == "interrupted"
    assert run.folder is not None
    assert (run.folder / "report.html").is_file()


@pytest.fixture
def nothing_left(tmp_path: Path) -> Left:
    """Says which processes, of whatever parent, still have to do with a run or the test's folder."""

    def left(run: Finished) -> list[str]:
        words = [str(tmp_path), *([run.folder.name] if run.folder else [])]
        end = time.monotonic() + 15
        while (found := _processes_of(words)) and time.monotonic() < end:
            time.sleep(0.1)
        return found

    return left


def _processes_of(words: list[str]) -> list[str]:
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            text = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            text += os.fsencode((process / "cwd").readlink())  # all that ties a QEMU to its run
            status = (process / "stat").read_text()
        except OSError:
            continue
        if any(word.encode() in text for word in words) and ") Z " not in status:
            found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found
