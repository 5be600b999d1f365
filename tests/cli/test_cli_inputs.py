"""Whatever is named as an input: never a hang, never noise read as health, one sentence that says the way out."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import subprocess
import time
import zipfile
from pathlib import Path

import pytest

from tests.support.console import SCRIPT, TIMEOUT_S, dmaproof

FAULT = b"[   51.691450] DMAR: [DMA Write] Request device [04:00.0] fault addr f8139000 [fault reason 05] x\n"
KMSG = Path("/dev/kmsg")
COMMANDS = ["decode", "triage"]


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo.toml"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("arguments", [["decode"], ["triage"], ["rigs"]], ids=lambda words: words[0])
def test_a_fifo_that_nobody_writes_into(arguments: list[str], fifo: Path) -> None:
    said = dmaproof(*arguments, fifo).complaint
    assert f"cannot read {fifo}: nobody has written into this FIFO in 5 s" in said


@pytest.mark.parametrize("arguments", [["route", "--sysfs"], ["doctor", "--archive"], ["report"]])
@pytest.mark.parametrize("device", [None, "/dev/zero"])
def test_what_must_be_a_file_is_one(arguments: list[str], device: str | None, fifo: Path) -> None:
    path = device or fifo
    assert f"{path}: it is no file" in dmaproof(*arguments, path).complaint


@pytest.mark.parametrize("wait_s", [0.0, 1.0])
def test_a_fifo_whose_writer_comes_or_is_slow(wait_s: float, fifo: Path) -> None:
    """Six seconds of silence of a writer that is there are not the five in which one must come."""
    with subprocess.Popen([SCRIPT, "decode", fifo], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        time.sleep(wait_s)
        with fifo.open("wb") as file:
            time.sleep(6.0 if wait_s == 0 else 0.0)
            file.write(FAULT)
        out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, err) == (1, b"")
    assert b"iommu-fault 0000:04:00.0" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_a_pipe_with_a_name(command: str) -> None:
    """Bash's <(..): a pipe that ends may have ended before it is opened."""
    line = FAULT.decode().strip()
    for text, status in ((f"echo '{line}'", 1), ("true", 0)):
        done = subprocess.run(
            ["bash", "-c", f"{SCRIPT} {command} <({text})"], capture_output=True, timeout=TIMEOUT_S, check=False
        )
        assert done.returncode == status, done


@pytest.mark.parametrize("arguments", [["decode"], ["triage"], ["rigs"], ["triage", "-", "--rig"]])
@pytest.mark.parametrize("device", ["/dev/zero", "/dev/urandom"])
def test_a_device_without_end(arguments: list[str], device: str) -> None:
    assert f"cannot read {device}: this device never ends" in dmaproof(*arguments, device, stdin=FAULT).complaint


def test_standard_input_without_end() -> None:
    with Path("/dev/zero").open("rb") as zero:
        done = subprocess.run([SCRIPT, "decode", "-"], stdin=zero, capture_output=True, timeout=TIMEOUT_S, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"dmaproof: cannot read -: this device never ends; name a file\n"


def test_standard_input_that_does_not_wait() -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with subprocess.Popen([SCRIPT, "decode", "-"], stdin=reader, stdout=subprocess.PIPE) as process:
        time.sleep(1.0)
        os.write(writer, FAULT)
        os.close(writer)
        out, _ = process.communicate(timeout=TIMEOUT_S)
    os.close(reader)
    assert b"1 event (1 iommu-fault) in 1 line" in out


@pytest.mark.skipif(not os.access(KMSG, os.R_OK), reason="/dev/kmsg cannot be read here")
def test_triage_of_the_running_kernels_log_ends() -> None:
    said = dmaproof("triage", "--json", KMSG)
    assert said.status in (0, 1)
    assert said.err == ""


def zipped(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("log", data)
    return file.getvalue()


PACKED = {
    "zcat": gzip.compress(FAULT),
    "xzcat": lzma.compress(FAULT),
    "bzcat": bz2.compress(FAULT),
    "unzip -p": zipped(FAULT),
    "zstdcat": b"\x28\xb5\x2f\xfd" + bytes(40),
    "lz4 -dc": b"\x04\x22\x4d\x18" + bytes(40),
    "journalctl -k -o short-monotonic --file": b"LPKSHHRH" + bytes(200),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("by", PACKED)
def test_a_log_that_is_packed(by: str, command: str, tmp_path: Path) -> None:
    """Read as it is it would be a log in which nothing is found."""
    log = tmp_path / "console log"
    log.write_bytes(PACKED[by])
    assert dmaproof(command, log).complaint.endswith(f"; use: {by} '{log}' | dmaproof {command} -\n")
    assert f"use: {by} FILE | dmaproof {command} -" in dmaproof(command, "-", stdin=PACKED[by]).complaint


def test_the_command_for_a_packed_log_works(tmp_path: Path) -> None:
    log = tmp_path / "log.gz"
    log.write_bytes(PACKED["zcat"])
    command = dmaproof("decode", log).complaint.partition("use: ")[2]
    path = f"{SCRIPT.parent}:{os.environ['PATH']}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, env={**os.environ, "PATH": path}, check=False)
    assert done.returncode == 1
    assert b"1 event (1 iommu-fault)" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [["decode", ""], ["triage", "-", ""], ["triage", "--archive", ""], ["route", "--sysfs", ""], ["rigs", ""],
     ["doctor", "--save", ""], ["doctor", "--archive", ""], ["report", ""]],
)  # fmt: skip
def test_a_variable_that_is_not_set(arguments: list[str], tmp_path: Path) -> None:
    said = dmaproof(*arguments, cwd=tmp_path)
    assert said.complaint == "dmaproof: an argument is empty, '': is a variable of the shell not set?\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["decode"], ["triage"], ["doctor", "--archive"], ["doctor", "--save"],
                                       ["route", "--sysfs"], ["rigs"], ["report"]])  # fmt: skip
def test_a_name_that_is_too_long(arguments: list[str]) -> None:
    name = "x" * 300 + ".toml"
    said = dmaproof(*arguments, name).complaint
    assert f"{name}: File name too long" in said
    assert "the output" not in said
