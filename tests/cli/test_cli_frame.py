"""What holds for every command: exit status, one line for what is wrong, quiet ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dmaproof import __version__
from tests.support.console import SCRIPT, TIMEOUT_S, dmaproof

COMMANDS = ["doctor", "rigs", "decode", "triage", "report"]
FAULT = b"[   51.691450] DMAR: [DMA Write] Request device [04:00.0] fault addr f8139000 [fault reason 05] x\n"


def test_version() -> None:
    said = dmaproof("--version")
    assert (said.status, said.out, said.err) == (0, f"dmaproof {__version__}\n", "")


def test_help_names_every_command_and_the_exit_status() -> None:
    said = dmaproof("--help")
    assert said.status == 0
    assert all(re.search(rf"^  {command}  ", said.out, re.MULTILINE) for command in COMMANDS)
    assert "1 findings" in said.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    said = dmaproof(command, "--help")
    assert said.status == 0
    assert said.out.startswith(f"Usage: dmaproof {command}")
    assert "Exit status" in " ".join(said.out.split()) or command == "rigs"


def test_asking_for_nothing_says_what_can_be_asked() -> None:
    assert all(command in dmaproof().complaint for command in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["decod"], "no command 'decod': did you mean 'decode'?"),
        (["xyz"], "no command 'xyz': valid: decode, doctor, lab, report, rigs, route, triage"),
        (["decode", "--jsn", "-"], "--json"),
        (["--versoin"], "--version"),
        (["decode"], "dmaproof: missing argument 'LOG|-'\n"),
        (["decode", "a", "b"], "dmaproof: unexpected argument 'b'\n"),
        (["report", "a", "b", "c"], "dmaproof: unexpected argument 'b'\n"),
        (["doctor", "a"], "dmaproof: unexpected argument 'a'\n"),
        (["rigs", "a", "b"], "dmaproof: unexpected argument 'b'\n"),
        (["triage", "--rig", "virtual:hgx-h10", "-"], "did you mean 'virtual:hgx-h100'?"),
        (["rigs", "virtual:pcie-par"], "did you mean 'virtual:pcie-pair'?"),
    ],
)
def test_a_wrong_word_gets_one_line_with_the_nearest_right_one(arguments: list[str], said: str) -> None:
    assert said in dmaproof(*arguments).complaint


@pytest.mark.parametrize("command", ["decode", "triage"])
def test_a_log_that_cannot_be_read(command: str, tmp_path: Path) -> None:
    assert "nowhere: No such file or directory" in dmaproof(command, tmp_path / "nowhere").complaint
    assert f"{tmp_path}: Is a directory" in dmaproof(command, tmp_path).complaint


_AS_NOBODY = """
import os, sys
import dmaproof.cli.decode  # while root may still read it: this environment may lie where nobody else can look
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)  # gives up every capability too
dmaproof.cli.main()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give root up")
def test_a_log_without_permission(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(FAULT)
    log.chmod(0)
    done = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, "decode", log],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"dmaproof: cannot read {log}: Permission denied\n"


def test_closed_standard_input() -> None:
    done = subprocess.run(
        ["sh", "-c", f"exec {SCRIPT} decode - <&-"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "dmaproof: cannot read -: standard input is closed\n"


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(FAULT * 20_000)  # more than any pipe holds
    command = f"{SCRIPT} decode {log} | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    assert done.returncode == 128 + signal.SIGPIPE


@pytest.mark.parametrize("arguments", [["--version"], ["rigs"], ["decode", "-"]])
def test_a_full_disk_under_the_output_gives_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [SCRIPT, *arguments], input=FAULT, stdout=full, stderr=subprocess.PIPE, timeout=TIMEOUT_S, check=False
        )
    assert done.returncode == 2
    assert done.stderr == b"dmaproof: cannot write the output: No space left on device\n"


def test_interrupt_ends_with_one_line_and_130() -> None:
    with subprocess.Popen(
        [SCRIPT, "decode", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(FAULT)
        process.stdin.flush()
        assert b"iommu-fault" in process.stdout.readline()  # a pipe that stays open is decoded as it comes
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == 130
        assert process.stderr.read() == b"dmaproof: interrupted\n"
