"""``--dry-run``: what the guests of a rig would change is said, and nothing is changed, run or left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.run.conftest import LIMIT_S, ROOT, Left, RunSuites
from tests.support.lab import supplied

NOWHERE = "0000:7f:1f.7"
HOST = """
name = "mine"
kind = "host"
node.host.endpoint.edu0 = {{ kind = "edu", bdf = "{bdf}", port = "0000:7f:10.0" }}
node.one.role = "guest"
node.one.guest.on = "host"
node.one.endpoint.edu0 = {{ kind = "edu", bdf = "0000:01:00.0", port = "0000:00:10.0" }}
"""
LAB = """
extends = "lab:vtd-vfio"
name = "drives"
kind = "lab"
node.one.role = "guest"
node.one.guest.on = "host"
node.one.endpoint.nvme0 = { kind = "nvme", bdf = "0000:01:00.0", port = "0000:00:10.0" }
node.one.endpoint.edu0 = { kind = "edu", bdf = "0000:02:00.0", port = "0000:00:11.0" }
"""


@pytest.fixture
def bindings(tmp_path: Path) -> Path:
    """What a run of this boot has left that was killed after it gave a function to VFIO which is no more."""
    folder = tmp_path / "bindings"
    folder.mkdir()
    entry = {"kind": "binding", "bdf": NOWHERE, "driver": "nvme", "override": None, "ours": "vfio-pci"}
    boot = {"boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(), "pid": 0}
    (folder / "1-1.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in (boot, entry)))
    return folder


def test_a_rig_without_guests_says_so(run_suites: RunSuites) -> None:
    run = run_suites("suites", "--rig=virtual:pcie-pair", "--dry-run")
    assert run.status == 2
    assert "--dry-run says what making guests would change: of virtual:pcie-pair, there is none among " in run.output
    assert run.folder is None


def test_elsewhere_than_in_the_suites_it_runs_nothing(run_suites: RunSuites) -> None:
    run = run_suites("tests/vfio/test_plan.py", "--dry-run")
    assert run.status == 4
    assert "--dry-run is for a run of the suites" in run.output


def test_what_would_be_refused_fails(run_suites: RunSuites, tmp_path: Path, nothing_left: Left, bindings: Path) -> None:
    supplied(python=True)
    (tmp_path / "mine.toml").write_text(HOST.format(bdf=NOWHERE))
    env = {"DMAPROOF_BINDINGS": str(bindings)}
    run = run_suites("suites", f"--rig={tmp_path / 'mine.toml'}", "--dry-run", env=env)
    assert run.status == 1, run.output
    assert f"  refused: there is no PCI function {NOWHERE}" in run.output
    assert len([*bindings.glob("*.jsonl")]) == 1, "a dry run puts nothing back"
    assert run.folder is None
    assert nothing_left(run) == []


def test_of_a_lab_host_it_is_said_what_would_be_bound(
    run_suites: RunSuites, tmp_path: Path, nothing_left: Left
) -> None:
    supplied(python=True)
    supplied()
    (tmp_path / "drives.toml").write_text(LAB)
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    run = run_suites("suites", f"--rig={tmp_path / 'drives.toml'}", "--dry-run", env={"TMPDIR": str(scratch)})
    assert run.status == 0, run.output
    said = run.output.partition("one, on host:\n")[2].splitlines()
    assert said[:2] == ["  0000:04:00.0: nvme -> vfio-pci", "  0000:01:00.0: no driver -> vfio-pci"]
    assert said[2].startswith("  QEMU: ")
    assert "-device vfio-pci,host=0000:04:00.0," in said[2]
    assert "-accel " in said[2]
    assert "no tests ran" in run.output
    assert run.folder is None
    assert nothing_left(run) == []
    assert list(scratch.iterdir()) == []


GPUS = """
name = "mine"
kind = "host"
node.host.gpu.gpu0.bdf = "17:00.0"
node.host.gpu.gpu1.bdf = "65:00.0"
[node.one]
role = "guest"
guest = {{ on = "host", may = [{may}] }}
[node.one.gpu.gpu0]
bdf = "01:00.0"
port = "00:10.0"
[node.one.gpu.gpu1]
bdf = "02:00.0"
port = "00:11.0"
"""
FUNCTIONS = {"0000:17:00.0": ("nvidia", 8), "0000:65:00.0": ("nvidia", 9), "0000:65:00.1": ("snd_hda_intel", 9)}
WITH_PCI = 'mount --bind "$0" /sys/bus/pci && exec "$@"'


def bus(folder: Path) -> Path:
    """What /sys/bus/pci is of a machine with FUNCTIONS, as far as binding looks at it."""
    for driver in ("nvidia", "snd_hda_intel", "vfio-pci"):
        (folder / "drivers" / driver).mkdir(parents=True)
    (folder / "drivers_probe").write_text("")
    for bdf, (driver, group) in FUNCTIONS.items():
        one, members = folder / "devices" / bdf, folder / f"groups/{group}/devices"
        one.mkdir(parents=True)
        members.mkdir(parents=True, exist_ok=True)
        (one / "class").write_text("0x030200\n")
        (one / "driver_override").write_text("(null)\n")
        (one / "driver").symlink_to(f"../../drivers/{driver}")
        (one / "iommu_group").symlink_to(f"../../groups/{group}")
        (members / bdf).symlink_to(f"../../../devices/{bdf}")
    return folder


def seen(folder: Path) -> dict[str, str]:
    """All that is in ``folder``: a file's text, a link's target."""
    return {
        str(path): str(path.readlink()) if path.is_symlink() else path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="a /sys/bus/pci of the run's own takes root")
@pytest.mark.parametrize(
    ("may", "status", "told"),
    [
        ("", 1, ["nothing is bound", "refused: 0000:65:00.1 shares IOMMU group 9 and is in use by snd_hda_intel: "]),
        ('"group"', 0, [f"{bdf}: {driver} -> vfio-pci" for bdf, (driver, _) in FUNCTIONS.items()]),
    ],
)
def test_of_a_host_it_is_said_which_driver_each_function_would_go_from(
    tmp_path: Path, may: str, status: int, told: list[str]
) -> None:
    supplied(python=True)
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, timeout=20, check=False).returncode:
        pytest.skip("this process may not make namespaces (unshare)")
    (tmp_path / "mine.toml").write_text(GPUS.format(may=may))
    pci, bindings = bus(tmp_path / "pci"), tmp_path / "bindings"
    before = seen(pci)
    suites = [sys.executable, "-m", "pytest", "suites", "--dry-run", "-p", "no:cacheprovider"]
    run = subprocess.run(
        ["unshare", "--mount", "sh", "-c", WITH_PCI, str(pci), *suites, f"--rig={tmp_path / 'mine.toml'}"],
        cwd=ROOT,
        env={**os.environ, "DMAPROOF_BINDINGS": str(bindings)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert run.returncode == status, run.stdout + run.stderr
    for line in told:
        assert f"\n  {line}" in run.stdout
    assert "-device vfio-pci,host=0000:65:00.0," in run.stdout
    assert seen(pci) == before
    assert not bindings.exists() or not list(bindings.glob("*.jsonl"))
