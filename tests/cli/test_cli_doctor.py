"""``dmaproof doctor``, on this machine and on ones that lack something."""

from __future__ import annotations

import gzip
import json
import os
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.console import SCRIPT, TIMEOUT_S, Said, dmaproof
from tests.support.harness import eventually

NO_DRIVER = {"LD_LIBRARY_PATH": ""}


def rows(said: Said) -> dict[str, Any]:
    assert said.err == ""
    return {row["subject"]: row for row in json.loads(said.out)}


def test_this_machine_row_by_row() -> None:
    said = dmaproof("doctor", "--json")
    found = rows(said)
    assert list(found) == [
        "Python",
        "CUDA bindings",
        "NVRTC",
        "C compiler",
        "NVIDIA driver",
        "GPUs",
        "/dev/kmsg",
        "PCI config space",
        "IOMMU",
        "FUSE",
        "KVM",
        "lab QEMU",
        "lab kernel",
        "virtme-ng",
        "lab for arm64",
    ]
    assert {row["state"] for row in found.values()} <= {"ok", "missing", "unknown"}
    assert all(row["purpose"] for row in found.values())
    assert all(bool(row["supply"]) == (row["state"] != "ok") for row in found.values())
    assert said.status == int(any(row["required"] and row["state"] != "ok" for row in found.values()))
    assert found["Python"]["state"] == "ok"
    assert (found["IOMMU"]["state"] == "ok") == any(Path("/sys/class/iommu").iterdir())


def test_text_shows_the_same_rows_and_how_to_supply_what_is_missing() -> None:
    found = rows(dmaproof("doctor", "--json"))
    said = dmaproof("doctor")
    for row in found.values():
        assert f"{row['state']:<7}  {row['subject']}" in said.out
        assert row["state"] == "ok" or f"get: {row['supply']}" in said.out
    assert said.out.count("get: ") == sum(row["state"] != "ok" for row in found.values())


def test_the_last_line_can_be_run_as_it_is(tmp_path: Path) -> None:
    found = rows(dmaproof("doctor", "--json"))
    if any(row["required"] and row["state"] != "ok" for row in found.values()):
        pytest.skip("nothing can be run here")
    end = " suites"
    if found["GPUs"]["state"] == "missing":
        end += " (virtual rigs only: no NVIDIA GPU here)"
    path = os.environ["PATH"]
    beside = dmaproof("doctor", env={"PATH": f"{SCRIPT.parent}:{path}"})
    assert beside.out.splitlines()[-1] == f"ready: pytest{end}"
    other = tmp_path / "pytest"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    elsewhere = dmaproof("doctor", env={"PATH": f"{tmp_path}:{path}"})
    assert elsewhere.out.splitlines()[-1] == f"ready: {shlex.quote(str(SCRIPT.with_name('pytest')))}{end}"


def test_without_driver_and_compiler_nothing_can_run(tmp_path: Path) -> None:
    found = rows(dmaproof("doctor", "--json", env={"PATH": str(tmp_path)}))
    if found["NVIDIA driver"]["state"] == "ok":
        pytest.skip("with a driver, no compiler is needed")
    assert (found["C compiler"]["state"], found["C compiler"]["required"]) == ("missing", True)
    assert "apt-get install" in found["C compiler"]["supply"]
    said = dmaproof("doctor", env={"PATH": str(tmp_path)})
    assert said.status == 1
    assert said.out.endswith("nothing can be run without: C compiler\n")


def test_a_compiler_that_cannot_compile_is_no_compiler(tmp_path: Path) -> None:
    cc = tmp_path / "cc"
    cc.write_text("#!/bin/sh\necho 'stdio.h: No such file' >&2\nexit 1\n")
    cc.chmod(0o755)
    row = rows(dmaproof("doctor", "--json", env={"PATH": f"{tmp_path}:/usr/bin:/bin"}))["C compiler"]
    assert row["state"] == "missing"
    assert row["detail"].endswith("cannot build a shared library: stdio.h: No such file")


@pytest.mark.parametrize(("module", "row"), [("driver", "CUDA bindings"), ("nvrtc", "NVRTC")])
def test_bindings_that_cannot_be_imported(module: str, row: str, tmp_path: Path) -> None:
    """A broken installation: the import itself fails, and the reason is told."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Broken:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == 'cuda.bindings.{module}':\n"
        "            raise ImportError('libstdc++.so.6 is missing')\n"
        "sys.meta_path.insert(0, Broken())\n"
    )
    said = dmaproof("doctor", "--json", env={"PYTHONPATH": str(tmp_path)})
    found = rows(said)[row]
    assert (said.status, found["state"], found["required"]) == (1, "missing", True)
    assert found["detail"] == "libstdc++.so.6 is missing"
    assert "-m pip install --upgrade cuda-python" in found["supply"]


@pytest.mark.parametrize("content", [b"a log", b"\x1f\x8b", gzip.compress(b"a log")], ids=["log", "mark", "gzip"])
def test_only_an_archive_is_replaced(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "console.log"
    file.write_bytes(content)
    assert f"cannot write {file}: it is there and no archive" in dmaproof("doctor", "--save", file).complaint
    assert file.read_bytes() == content
    file.write_bytes(b"")
    for _ in "once", "again":
        assert dmaproof("doctor", "--save", file).status == 0
    assert file.read_bytes()[:2] == b"\x1f\x8b"


def test_saving_is_into_a_file(tmp_path: Path) -> None:
    assert "name a file, such as bench.tar.gz" in dmaproof("doctor", "--save", "-", cwd=tmp_path).complaint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_saving_that_is_cut_short_leaves_the_old_archive(number: signal.Signals, tmp_path: Path) -> None:
    root, folder = tmp_path / "machine", tmp_path / "saved"
    folder.mkdir()
    (root / "sys/bus/pci/devices").mkdir(parents=True)
    (root / "dev").mkdir()
    (root / "dev/kmsg").write_bytes(b"6,1,100,-;first\n")
    file = folder / "bench.tar.gz"
    command = ["doctor", "--archive", root, "--save", file]
    assert dmaproof(*command).status == 0
    before = file.read_bytes()
    (root / "dev/kmsg").write_bytes(os.urandom(48 << 20))
    with subprocess.Popen([SCRIPT, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert eventually(lambda: len(list(folder.iterdir())) == 2)
        process.send_signal(number)
        out, err = process.communicate(timeout=TIMEOUT_S)
    assert out == b""
    assert file.read_bytes() == before
    if number == signal.SIGINT:
        assert (process.returncode, err) == (130, b"dmaproof: interrupted\n")
        assert list(folder.iterdir()) == [file]
