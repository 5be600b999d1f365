"""What holds for every command: exit status, one line for what is wrong, quiet ends."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
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
        (["xyz"], "no command 'xyz': valid: audit-trace, decode, doctor, lab, report, rigs, route, triage"),
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


@pytest.mark.parametrize("arguments", [["decode", "nowhere"], ["decode", "/dev/null"]], ids=["complaint", "remark"])
def test_nobody_to_complain_to_is_no_finding(arguments: list[str]) -> None:
    """A status of 1 would say that something was found."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([SCRIPT, *arguments], stderr=full, stdout=subprocess.PIPE, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 2
    piped = f"{SCRIPT} decode nowhere 2>&1 | true; exit ${{PIPESTATUS[0]}}"
    assert subprocess.run(["bash", "-c", piped], timeout=TIMEOUT_S, check=False).returncode == 2


def terminal(*arguments: str, cwd: Path, **env: str) -> str:
    """What a terminal gets to show."""
    command = " ".join(shlex.quote(str(word)) for word in (SCRIPT, *arguments))
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT_S,
        cwd=cwd,
        env={**os.environ, "TERM": "xterm", **env},
        check=False,
    )
    return done.stdout.decode()


needs_script = pytest.mark.skipif(shutil.which("script") is None, reason="needs script(1) for a terminal")


@needs_script
@pytest.mark.parametrize(
    "arguments",
    [["decode", "{}"], ["decode", "{}.not"], ["triage", "{}", "other"], ["doctor", "--save", "{}.tgz"],
     ["doctor", "--archive", "{}.not"], ["rigs", "./{}"], ["report", "{}.not"], ["route", "--sysfs", "{}.not"]],
    ids=" ".join,
)  # fmt: skip
def test_a_files_name_cannot_steer_the_terminal(arguments: list[str], tmp_path: Path) -> None:
    name = "red\x1b[31m\x1b]0;owned\x07"
    for file in (name, "other"):
        (tmp_path / file).write_bytes(FAULT if file == "other" else b"nothing of note")
    said = terminal(*(word.format(name) for word in arguments), cwd=tmp_path)
    assert "red\\x1b[31m\\x1b]0;owned\\x07" in said
    assert "\x1b[31m" not in said
    assert "\x07" not in said


@needs_script
def test_colours_are_left_out_on_demand(tmp_path: Path) -> None:
    assert "\x1b[3" in terminal("doctor", cwd=tmp_path, NO_COLOR="")
    assert "\x1b" not in terminal("doctor", cwd=tmp_path, NO_COLOR="1")
    assert "\x1b" not in terminal("doctor", cwd=tmp_path, TERM="dumb")


def test_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    log = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.log"))
    log.write_bytes(FAULT)
    assert dmaproof("decode", log).status == 1
    assert "\\udcff\\udcfe.log2: No such file" in dmaproof("decode", f"{log}2").complaint
    answer = json.loads(dmaproof("triage", "--json", log).out)
    assert answer["logs"][0]["name"].encode().decode() == "\\udcff\\udcfe"
