"""A lab host that is cut off, does not come up, dies or falls silent: the run says so, ends, and leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from dmaproof.report.stream import read
from tests.run.conftest import Finished, Left, Start, Started, assert_interrupted_with_reports
from tests.support.lab import supplied

SUITE = ("suites/iommu/test_unmapped.py", "-v")
DMA = (*SUITE, "--rig=lab:vtd")
RIG = """
extends = "lab:vtd"
name = "odd"
kind = "lab"

[deadline]
workload_s = 2

[node.host]
parameters = {parameters}
"""
SOON_S = 20.0
_KEEPER = b"dmaproof.guest.keeper"
"""QEMU's arguments are its own too."""


@pytest.fixture(autouse=True)
def lab() -> None:
    supplied()


def odd(tmp_path: Path, *parameters: str) -> str:
    file = tmp_path / "odd.toml"
    file.write_text(RIG.format(parameters=json.dumps(parameters)))
    return f"--rig={file}"


def qemu_of(scratch: Path, timeout_s: float = SOON_S) -> int:
    """The process of the one QEMU whose folder is in ``scratch``."""
    end = time.monotonic() + timeout_s
    while True:
        found = [int(one.name) for one in Path("/proc").glob("[0-9]*") if _is_qemu(one, scratch)]
        if found:
            (pid,) = found
            return pid
        assert time.monotonic() < end, "no QEMU"
        time.sleep(0.05)


def _is_qemu(process: Path, scratch: Path) -> bool:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
        return scratch in (process / "cwd").readlink().parents and b"-machine" in words and _KEEPER not in words
    except OSError:
        return False


def killed(started: Started) -> Finished:
    started.signal(signal.SIGKILL)
    started.process.wait(10)
    return started.finish()


def messages(run: Finished) -> Mapping[str, str]:
    return {test.id.partition("::")[2]: test.message for test in run.record.tests if test.outcome == "failed"}


def test_a_killed_run_leaves_what_was_recorded_and_nothing_else(begin: Start, scratch: Path, gone: Left) -> None:
    started = begin(*DMA)
    started.wait_for(r"PASSED.*\n\S+::")  # the next test has begun: the first one's lines have been written
    qemu_of(scratch)
    run = killed(started)
    assert gone(run) == []
    assert run.folder is not None
    record = read(run.folder / "record.jsonl")
    assert [test.outcome for test in record.tests][:1] == ["passed"]
    assert record.end is None


def test_a_run_killed_while_its_host_boots_leaves_nothing(begin: Start, scratch: Path, gone: Left) -> None:
    started = begin(*DMA)
    qemu_of(scratch)
    run = killed(started)
    before_s = time.monotonic()
    assert gone(run) == []
    assert time.monotonic() - before_s < 3, "a host that nobody waits for need not come up"
    assert run.folder is None


def test_ctrl_c_ends_the_host_and_reports_what_was_run(begin: Start, scratch: Path, gone: Left) -> None:
    started = begin(*DMA)
    started.wait_for("PASSED")
    started.signal(signal.SIGINT)
    run = started.finish()
    assert_interrupted_with_reports(run)
    assert "passed" in run.outcomes.values()
    assert gone(run) == []


def test_ctrl_c_while_the_host_boots_ends_at_once(begin: Start, scratch: Path, gone: Left) -> None:
    started = begin(*DMA)
    qemu_of(scratch)
    before_s = time.monotonic()
    started.signal(signal.SIGINT)
    run = started.finish()
    assert time.monotonic() - before_s < 5
    assert run.status == 2, run.output
    assert run.folder is None
    assert gone(run) == []


def test_a_kernel_that_panics_is_told_by_its_last_words(begin: Start, tmp_path: Path, gone: Left) -> None:
    run = begin(*SUITE, odd(tmp_path, "rootfstype=ext4")).finish()
    assert run.status == 2
    assert "Kernel panic - not syncing: VFS: Unable to mount root fs" in run.output
    assert "Traceback" not in run.output
    assert run.folder is None
    assert gone(run) == []


def test_a_kernel_that_panics_and_stays_is_given_up(begin: Start, tmp_path: Path, gone: Left) -> None:
    rig = odd(tmp_path, "rootfstype=ext4", "panic=0")
    run = begin(*SUITE, rig, "--deadline-scale=0.25").finish()
    assert run.status == 2
    assert "did not come up within 15 s" in run.output
    assert "Kernel panic - not syncing: VFS: Unable to mount root fs" in run.output
    assert gone(run) == []


def test_a_host_that_dies_fails_the_tests_that_needed_it(begin: Start, scratch: Path, gone: Left) -> None:
    started = begin(*DMA)
    started.wait_for("PASSED")
    os.kill(qemu_of(scratch), signal.SIGKILL)
    before_s = time.monotonic()
    run = started.finish()
    assert time.monotonic() - before_s < SOON_S, run.output
    assert run.status == 1
    failed = messages(run)
    assert failed, run.output
    for said in failed.values():
        assert "QEMU was killed by SIGKILL" in said
    assert [line.text for line in run.record.evidence if line.what == "node-lost"]
    assert not run.record.devices, "no device is to blame, and none can be probed"
    assert run.signatures == {"node-lost"}
    assert gone(run) == []


def test_a_host_whose_agent_is_killed_is_gone_at_once(begin: Start, gone: Left) -> None:
    run = begin(*DMA, "-k", "write_to_nowhere", "-p", "tests.run.plugins.agent_killed").finish()
    assert run.status == 1, run.output
    assert len(messages(run)) > 1
    for said in messages(run).values():
        assert "QEMU ended (status 0)" in said
        assert "which served a port of the agent, has ended" in said
    assert max(test.duration_s for test in run.record.tests) < SOON_S, "nobody waits for the deadline of a test"
    assert gone(run) == []


def test_a_host_whose_kernel_panics_is_told_by_its_console(begin: Start, gone: Left) -> None:
    """Nobody is left to read its log: what the kernel says last is on the console alone."""
    run = begin(*DMA, "-k", "write_to_nowhere", "-p", "tests.run.plugins.kernel_panics").finish()
    assert run.status == 1, run.output
    verdicts = run.record.verdicts
    assert len(verdicts) > 1, "of the test that it befell, and of those that find the host gone"
    for verdict in verdicts:
        assert (verdict.signature, verdict.confidence) == ("kernel-crash", "certain")
        assert verdict.summary.startswith("Kernel panic - not syncing: Out of memory: ")
    (crash,) = {line.text for line in run.record.evidence if line.what == "kernel-crash"}
    assert crash.splitlines()[1].startswith("CPU: ")
    assert gone(run) == []


def test_a_host_that_falls_silent_is_given_up_once(begin: Start, tmp_path: Path, scratch: Path, gone: Left) -> None:
    """Deadlines do not depend on the machine that they are about; and those who come later do not wait for it again."""
    started = begin(*SUITE, odd(tmp_path))
    started.wait_for("PASSED")
    os.kill(qemu_of(scratch), signal.SIGSTOP)
    before_s = time.monotonic()
    run = started.finish()
    assert time.monotonic() - before_s < 2 * SOON_S + 20, run.output
    assert run.status == 1
    assert any("did not answer within" in said for said in messages(run).values())
    assert gone(run) == []


def test_two_processes_share_a_host(begin: Start, gone: Left) -> None:
    run = begin("suites/iommu/test_unmapped.py", "--rig=lab:vtd", "-n", "2").finish()
    assert run.status == 0, run.output
    assert run.record.whole
    assert sum(outcome == "passed" for outcome in run.outcomes.values()) == 6
    assert gone(run) == []


def test_what_a_host_says_after_a_failure_is_not_what_it_said_at_boot(begin: Start) -> None:
    """A function taken off the bus: the copy of sysfs still has it, the machine does not."""
    run = begin(*DMA, "-k", "write_to_nowhere and edu1", "-p", "tests.run.plugins.function_removed").finish()
    assert run.status == 1, run.output
    texts = [line.text for line in run.record.evidence]
    assert "0000:02:00.0: not on the bus" in texts
    (verdict,) = run.record.verdicts
    assert any("as of its boot" in spot for spot in verdict.blind_spots)
    assert {(line.bdf, line.state) for line in run.record.devices} == {("0000:02:00.0", "poisoned")}


def test_a_console_that_is_flooded_is_named(begin: Start, gone: Left) -> None:
    run = begin(*DMA, "-k", "write_to_nowhere and edu1", "-p", "tests.run.plugins.console_flooded").finish()
    assert run.status == 1, run.output
    (verdict,) = run.record.verdicts
    assert verdict.signature == "console-flood", run.output
    assert "host has put" in verdict.summary
    assert gone(run) == []
