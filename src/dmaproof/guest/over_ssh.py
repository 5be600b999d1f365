"""Starts the agent of a guest that has been filled from a disk image: over SSH, which is done with once it runs. From
then on the agent speaks over its virtio-serial ports, as any does.
"""

from __future__ import annotations

import io
import shlex
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import dmaproof
from dmaproof.errors import NodeError
from dmaproof.guest.disk import LOOPBACK
from dmaproof.node.deadline import Deadline
from dmaproof.parent import die_with_parent
from dmaproof.rig.hardware import Disk

_PACKAGE = Path(dmaproof.__file__).parent
_KNOWN_HOSTS = "known_hosts"
_TRY_S, _PAUSE_S = 20, 0.5
_OWN_FAILURE = 255  # ssh(1): any other status is the command's
_REFUSED = "Permission denied"
_MOST_LINES = 3
_RECEIVE = """\
import os, sys
if sys.version_info < (3, 11):
    sys.exit(f"{sys.executable} is Python {sys.version.split()[0]}: dmaproof takes 3.11 or newer")
import tarfile, tempfile
folder = tempfile.mkdtemp(prefix="dmaproof-")
tarfile.open(fileobj=sys.stdin.buffer, mode="r|gz").extractall(folder)
os.environ["PYTHONPATH"] = folder
os.execv(sys.executable, [sys.executable, "-P", "-m", "dmaproof.guest.started"])
"""
"""The other end, before anything of this project is there."""


def start_agent(disk: Disk, port: int, folder: Path, deadline: Deadline, check: Callable[[], None]) -> None:
    """Have the agent run in the guest whose SSH server is behind ``port`` of this system; files lie in ``folder``, and
    ``disk`` names its key as dmaproof.guest.disk.found has it.

    While nobody answers there it is tried again; ``check`` is called between, and raises where that is in vain. Raises
    NodeError with what ssh said last where it is refused, where the agent does not start, or at ``deadline``.
    """
    words, sent = command(disk, port, folder), package()
    said = "it was not tried"
    while not deadline.passed:
        status, said = _tried(words, sent, deadline, said)
        if status == 0:
            return
        if status != _OWN_FAILURE or _REFUSED in said:
            break
        check()
        time.sleep(min(_PAUSE_S, deadline.remaining_s))
    late = f" within {deadline.seconds:g} s" if deadline.passed else ""
    raise NodeError(
        f"no agent could be started{late} as {disk.user} over SSH ({LOOPBACK} port {port}, which is the guest's port "
        f"{disk.port}): {said}"
    )


def command(disk: Disk, port: int, folder: Path) -> list[str]:
    """ssh's. Nothing is asked of a person, or taken from this user's own settings, keys and known hosts: the guest is
    another at each start, on a port of its own."""
    settings = {
        "BatchMode": "yes",
        "ConnectTimeout": str(_TRY_S),  # QEMU takes the connection before the guest does
        "GlobalKnownHostsFile": "/dev/null",
        "IdentitiesOnly": "yes",
        "LogLevel": "ERROR",
        "ServerAliveInterval": str(_TRY_S),
        "StrictHostKeyChecking": "accept-new",
        "UserKnownHostsFile": f'"{folder / _KNOWN_HOSTS}"',
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    as_root = [] if disk.user == "root" else ["sudo", "-n"]
    there = shlex.join([*as_root, disk.python, "-W", "ignore", "-c", _RECEIVE])
    where = ["-i", disk.key, "-p", str(port), "-l", disk.user, LOOPBACK]
    return ["ssh", "-F", "none", "-T", *options, *where, there]


def package() -> bytes:
    """This project as it is now, packed: tar, gzip."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
        archive.add(_PACKAGE, _PACKAGE.name, filter=_plain)
    return packed.getvalue()


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Without bytecode, which is of this system's Python."""
    if member.name.endswith("/__pycache__"):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _tried(words: list[str], sent: bytes, deadline: Deadline, before: str) -> tuple[int, str]:
    """The status of one try, and what was said; ``before`` where that is nothing new."""
    try:
        done = subprocess.run(
            words,
            input=sent,
            capture_output=True,
            timeout=max(deadline.remaining_s, _PAUSE_S),
            check=False,
            preexec_fn=die_with_parent,
        )
    except subprocess.TimeoutExpired as error:
        return _OWN_FAILURE, _last((error.stderr or b"").decode(errors="replace")) or before
    return done.returncode, _last(done.stderr.decode(errors="replace")) or f"exit status {done.returncode}"


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"ssh says: {' | '.join(lines[-_MOST_LINES:])}" if lines else ""
