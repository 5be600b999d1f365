"""Owns one lab host: ``python -m dmaproof.guest.keeper FOLDER DEADLINE_S -- QEMU..``; or, without QEMU, listens to a
machine that another has started.

Starts QEMU, waits for its agent, says ``ready``, and passes the kernel log on, until its own standard input ends,
which it does also when whoever started it is killed. Then QEMU is killed and the folder removed: nothing is left.
"""

from __future__ import annotations

import base64
import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, BinaryIO

from pydantic import Field, TypeAdapter

from dmaproof.errors import NodeError
from dmaproof.guest import flood
from dmaproof.guest.console import last_words
from dmaproof.guest.folder import AGENT, CONTROL, QEMU_LOG, ROOT
from dmaproof.guest.said import Log, Machine
from dmaproof.node.channel import Channel, ChannelClosed
from dmaproof.node.deadline import Deadline
from dmaproof.node.remote import GONE
from dmaproof.parent import die_with_parent
from dmaproof.rig.unpack import unpack

READY = "ready"
_SAID: TypeAdapter[Machine | Log] = TypeAdapter(Annotated[Machine | Log, Field(discriminator="kind")])
_BESIDE = Path(f".{ROOT}")
_STEP_S, _KILL_S, _REAP_S = 0.02, 5.0, 1.0


def main(folder: Path, deadline: Deadline, command: Sequence[str]) -> None:
    for number in (signal.SIGINT, signal.SIGHUP):  # meant for whoever started this process
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.chdir(folder)
    try:
        with _log() as log, _qemu(command) as qemu:
            control = _await_socket(qemu, deadline)
            _await_machine(control, qemu, deadline, log)
            _say(READY)
            gone = _keep(control, qemu, log)
            if gone:
                _leave_word(gone)
                _await_end()
    except NodeError as error:
        _say(str(error))
        _await_end()
    finally:
        _remove(folder)


@contextlib.contextmanager
def _log() -> Iterator[BinaryIO]:
    """The copy's kernel log, which is there before the rest of the copy is: under its later name from then on."""
    for folder in ("dev", "run/lock"):
        (_BESIDE / folder).mkdir(parents=True)
    with (_BESIDE / "dev/kmsg").open("ab", buffering=0) as log:
        yield log


class _Elsewhere:
    """A QEMU that another owns: nothing is known of its end here."""

    returncode = None

    def poll(self) -> None:
        return


_Qemu = subprocess.Popen[bytes] | _Elsewhere


@contextlib.contextmanager
def _qemu(command: Sequence[str]) -> Iterator[_Qemu]:
    if not command:
        yield _Elsewhere()
        return
    with Path(QEMU_LOG).open("wb") as log:
        qemu = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one thread
        )
    try:
        yield qemu
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(qemu.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            qemu.wait(_KILL_S)


def _say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def _await_socket(qemu: _Qemu, deadline: Deadline) -> Channel:
    while True:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(CONTROL)
            return Channel(sock)
        except OSError:
            sock.close()
        _check(qemu, deadline)
        time.sleep(_STEP_S)


def _await_machine(control: Channel, qemu: _Qemu, deadline: Deadline, log: BinaryIO) -> None:
    """Take in what the agent says first: what this machine is."""
    while not Path(ROOT).is_dir():
        _check(qemu, deadline)
        if _fill(control, _STEP_S):
            _take(control, log)


def _nobody_waits() -> bool:
    return bool(select.select([0], [], [], 0)[0]) and not os.read(0, 1)


def _check(qemu: _Qemu, deadline: Deadline) -> None:
    if _nobody_waits():
        sys.exit(1)
    if qemu.poll() is not None:
        raise NodeError(f"QEMU ended while the machine was booting (status {qemu.returncode}){last_words(Path())}")
    if deadline.passed:
        words = last_words(Path()) if isinstance(qemu, subprocess.Popen) else ""
        raise NodeError(f"the machine did not come up within {deadline.seconds:g} s{words}")


def _keep(control: Channel, qemu: _Qemu, log: BinaryIO) -> str:
    """Pass the kernel log on. Returns when nobody needs the machine any more (nothing), or why it is gone."""
    waiter = select.poll()
    for fd in (0, control.fileno()):
        waiter.register(fd, select.POLLIN)
    while True:
        ready = {fd for fd, _ in waiter.poll(1000)}
        flood.thin(Path())
        if 0 in ready and not os.read(0, 1):
            return ""
        try:
            if control.fileno() in ready:
                control.fill()
                _take(control, log)
        except ChannelClosed:
            return f"QEMU {_end_of(qemu)}{last_words(Path())}"


def _end_of(qemu: _Qemu) -> str:
    """Its sockets close a little before it has ended."""
    deadline = Deadline.after(_REAP_S)
    while qemu.poll() is None and not deadline.passed:
        time.sleep(_STEP_S)
    status = qemu.returncode
    return f"was killed by {signal.Signals(-status).name}" if status and status < 0 else f"ended (status {status})"


def _fill(control: Channel, wait_s: float) -> bool:
    waiter = select.poll()
    waiter.register(control.fileno(), select.POLLIN)
    if not waiter.poll(wait_s * 1000):
        return False
    with contextlib.suppress(ChannelClosed):
        control.fill()
    return True


def _take(control: Channel, log: BinaryIO) -> None:
    while (frame := control.next_frame()) is not None:
        match _SAID.validate_json(frame):
            case Machine(archive=archive):
                _unpack(base64.b64decode(archive))
            case Log(records):
                log.write(base64.b64decode(records))


def _unpack(archive: bytes) -> None:
    packed = Path("machine.tar.gz")
    packed.write_bytes(archive)
    unpack(packed, _BESIDE)
    packed.unlink()
    _BESIDE.rename(ROOT)


def _leave_word(why: str) -> None:
    Path(AGENT, GONE).write_text(why, encoding="utf-8")


def _await_end() -> None:
    """The folder stays for as long as somebody may read in it."""
    while os.read(0, 1):
        pass


def _remove(folder: Path) -> None:
    os.chdir("/")
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # other nodes' folders are in it
        folder.parent.rmdir()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Deadline.after(float(sys.argv[2])), sys.argv[4:])
