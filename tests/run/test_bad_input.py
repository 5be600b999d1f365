"""Bad input and bad luck: one clear sentence each, no process, no lock and no half-written report left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmaproof.node.hold import hold_for_run
from dmaproof.node.node import Node, lock_dir
from tests.run.conftest import Left, RunSuites, Start, assert_interrupted_with_reports
from tests.support.harness import eventually

ABSENT = "00fe:01:00.0"  # a bus that no machine of ours has


def host_rig(folder: Path, *bdfs: str) -> Path:
    """A rig file of kind host with one GPU a BDF."""
    rig = folder / "bench.toml"
    gpus = "".join(f'[node.host.gpu.gpu{index}]\nbdf = "{bdf}"\n' for index, bdf in enumerate(bdfs))
    rig.write_text(f'name = "bench"\nkind = "host"\n[node.host]\n{gpus}')
    return rig


def sentence(output: str) -> str:
    """The one line that pytest prints for a refused run."""
    (line,) = [line for line in output.splitlines() if line.startswith(("Exit: ", "dmaproof: "))]
    return line


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--rig=virtual:hgx-h10",), "unknown rig 'virtual:hgx-h10': did you mean 'virtual:hgx-h100'?"),
        (("--rig=nowhere.toml",), "cannot read rig file nowhere.toml: No such file or directory"),
        (("--rig=virtual:gh200", "--plant=gpu-lots"), "did you mean 'gpu-lost'?"),
        (("--rig=virtual:hgx-h100", "--plant=ats-stage2-hole"), "ats-stage2-hole"),
        (("--rig=host", "--plant=gpu-lost"), "virtual"),
        (("--rig=virtual:gh200", "--plant="), "--plant= names no defect"),
        (("--rig=virtual:gh200", "--plant=gpu-lost,"), "--plant=gpu-lost, names no defect"),
        (("--rig=virtual:gh200", "--pairs=some"), "--pairs=some"),
        (("--rig=virtual:gh200", "--oversubscribe=1"), "--oversubscribe=1: give a number above 1"),
        (("--rig=virtual:gh200", "--oversubscribe=much"), "--oversubscribe=much: give a number above 1"),
    ],
)
def test_unusable_options(args: tuple[str, ...], told: str, run_suites: RunSuites) -> None:
    run = run_suites("suites", *args)
    assert run.status == 2, run.output
    assert told in sentence(run.output)
    assert "Traceback" not in run.output


def test_a_rig_file_with_a_misspelt_key(tmp_path: Path, run_suites: RunSuites) -> None:
    rig = host_rig(tmp_path, ABSENT)
    rig.write_text(rig.read_text() + "nvlnks = 18\n")
    run = run_suites("suites", f"--rig={rig}")
    assert run.status == 2
    assert sentence(run.output).endswith(f"{rig}: unknown key 'node.host.gpu.gpu0.nvlnks': did you mean 'nvlinks'?")


def test_a_declared_gpu_that_the_machine_lacks_fails(tmp_path: Path, run_suites: RunSuites) -> None:
    run = run_suites(
        "suites", f"--rig={host_rig(tmp_path, ABSENT)}", "-k", "undeclared or test_local_copy or first_touch"
    )
    assert run.status == 1
    told = {test.message.splitlines()[0] for test in run.record.tests if test.outcome == "failed"}
    assert f"rig host:bench declares {ABSENT}, but node host has no such PCI function" in told
    assert any("the rig declares GPUs that are not on the machine's bus" in one for one in told)
    assert "Traceback" not in run.output


def test_no_driver_is_one_sentence(tmp_path: Path, run_suites: RunSuites) -> None:
    functions = sorted(Path("/sys/bus/pci/devices").glob("*"))
    if not functions:
        pytest.skip("this machine has no PCI function to declare")
    if any((function / "vendor").read_text().strip() == "0x10de" for function in functions):
        pytest.skip("this machine has an NVIDIA device: there may be a driver")
    run = run_suites("suites/p2p", f"--rig={host_rig(tmp_path, functions[-1].name)}", "-k", "test_local_copy and ce")
    (test,) = run.record.tests
    assert test.outcome == "failed"
    assert "no CUDA driver" in test.message
    assert "libcuda.so.1" in test.message


def test_gpus_that_another_run_holds_are_refused(tmp_path: Path, run_suites: RunSuites) -> None:
    with hold_for_run(Node("host"), [ABSENT], "another-run"):
        run = run_suites("suites", f"--rig={host_rig(tmp_path, ABSENT)}")
    assert run.status == 2
    assert ABSENT in sentence(run.output)
    assert "another-run" in sentence(run.output)
    again = run_suites("suites/topology", f"--rig={host_rig(tmp_path, ABSENT)}")
    assert again.status == 1, "a run that ended must leave nothing held"


HASTE = "--deadline-scale=0.5"
SLOW = ("suites/p2p", "--rig=virtual:pcie-pair", "--plant=iommu-blocks-p2p-mailbox", "-k", "not local", "-v", HASTE)


def test_interrupt(start: Start, nothing_left: Left) -> None:
    started = start(*SLOW)
    started.wait_for("test_host_copy.*PASSED|FAILED")
    started.signal(signal.SIGINT)
    run = started.finish()
    assert_interrupted_with_reports(run)
    assert run.folder is not None
    assert (run.folder / "junit.xml").read_text().rstrip().endswith("</testsuites>")
    assert nothing_left(run) == []


def test_an_interrupted_teardown_loses_no_outcome(run_suites: RunSuites) -> None:
    """What people were told while it ran is in the record too; nor is a file that nobody could close their concern."""
    run = run_suites(*SLOW[:2], "-k", "host_copy", "-v", "-p", "tests.run.plugins.interrupted_teardown")
    assert_interrupted_with_reports(run)
    assert run.output.count("PASSED") == 1
    assert list(run.outcomes.values()) == ["passed"]
    assert "Traceback" not in run.output


@pytest.mark.parametrize("extra", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_killed(extra: tuple[str, ...], start: Start, nothing_left: Left, tmp_path: Path) -> None:
    started = start(*SLOW, *extra)
    started.wait_for(r"FAILED[\s\S]*FAILED[\s\S]*FAILED")  # the first one's lines have been written by now
    started.signal(signal.SIGKILL)
    run = started.finish()
    assert run.status == -signal.SIGKILL
    assert nothing_left(run) == []
    assert run.folder is not None
    assert list(Path(tempfile.gettempdir()).glob(f"dmaproof-{run.folder.name}*")) == []
    record = run.record
    assert record.end is None
    assert record.tests, "what was finished before the kill must be in the record"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(folder)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this machine does not let root mount a tmpfs")
    yield folder
    assert eventually(lambda: subprocess.run(["umount", str(folder)], check=False).returncode == 0)


def test_a_disk_that_fills_up(small_disk: Path, run_suites: RunSuites, nothing_left: Left) -> None:
    """Measurements and evidence of the run outgrow the disk; what was recorded before stays whole."""
    run = run_suites("suites", "--rig=virtual:hgx-h100", reports=small_disk)
    assert run.status == 2, run.output
    assert "No space left on device" in sentence(run.output)
    assert "Traceback" not in run.output
    assert run.folder is not None
    assert not (run.folder / "junit.xml").exists()
    assert not (run.folder / "report.html").exists()
    assert run.record.tests
    assert nothing_left(run) == []


def test_no_locks_are_left_in_the_system(run_suites: RunSuites) -> None:
    before = set(lock_dir(Node("host")).glob("*"))
    begin = time.time()
    run = run_suites("suites/iommu", "--rig=virtual:gh200")
    assert run.status == 0
    made = [path for path in set(lock_dir(Node("host")).glob("*")) - before if path.stat().st_mtime >= begin]
    assert [path for path in made if re.search("dmaproof", path.name)] == []
