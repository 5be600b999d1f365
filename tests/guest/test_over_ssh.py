"""Starting an agent over SSH, by a real ssh and a real server on this system: what is sent, and what is told where it
fails. In place of the image's Python there is a script.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from dmaproof.errors import NodeError
from dmaproof.guest import over_ssh, store
from dmaproof.node.deadline import Deadline
from dmaproof.rig.hardware import Disk
from tests.support import disk_image

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the server lets in root alone")
SOON_S = 20.0


@dataclass
class Server:
    """An SSH server that lets in whoever has ``key``, behind ``port``; nothing is there until ``start``. Connections
    have processes of their own, as inetd has it: one that listens would start itself anew, without its libraries."""

    folder: Path
    key: Path
    port: int
    command: list[str]
    stack: ExitStack

    def start(self) -> None:
        listener = self.stack.enter_context(socket.create_server(("127.0.0.1", self.port)))
        self.stack.callback(listener.shutdown, socket.SHUT_RDWR)
        threading.Thread(target=self._serve, args=[listener], daemon=True).start()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with sock, (self.folder / "server.txt").open("ab") as log:
                one = subprocess.Popen(self.command, stdin=sock, stdout=sock, stderr=log)
            self.stack.callback(one.wait, SOON_S)
            self.stack.callback(one.kill)

    def disk(self, python: str) -> Disk:
        return Disk(path="/none", format="raw", key=str(self.key), python=python)

    def start_agent(self, python: str, within_s: float = SOON_S, check: Callable[[], None] = lambda: None) -> None:
        files = self.folder / "scratch"
        files.mkdir()
        over_ssh.start_agent(self.disk(python), self.port, files, Deadline.after(within_s), check)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    dropbear, keygen = disk_image.server()
    for name in ("key", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    subprocess.run([*keygen, "-t", "ed25519", "-f", str(tmp_path / "host")], check=True, capture_output=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ExitStack() as stack:  # keys in a folder that anybody may write to, or that is in one, let nobody in
        allowed = stack.enter_context(tempfile.TemporaryDirectory(dir=store.folder()))
        Path(allowed, "authorized_keys").write_bytes((tmp_path / "key.pub").read_bytes())
        command = [*dropbear, "-i", "-E", "-s", "-r", str(tmp_path / "host"), "-D", allowed]
        yield Server(tmp_path, tmp_path / "key", port, command, stack)


def script(folder: Path, body: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_the_package_arrives_and_python_is_told_what_to_do_with_it(server: Server, tmp_path: Path) -> None:
    server.start()
    server.start_agent(script(tmp_path, f'printf "%s\\n" "$@" > {tmp_path}/asked; cat > {tmp_path}/sent'))
    assert "-m" in (tmp_path / "asked").read_text()
    with tarfile.open(tmp_path / "sent") as sent:
        names = sent.getnames()
    assert {"dmaproof/guest/started.py", "dmaproof/py.typed", "dmaproof/guest/kernel.x86_64.config"} <= {*names}
    assert not [name for name in names if name.endswith(".pyc") or "__pycache__" in name]
    assert (tmp_path / "scratch/known_hosts").read_text().startswith(f"[127.0.0.1]:{server.port} ssh-ed25519 ")


def test_a_server_that_comes_later_is_waited_for(server: Server, tmp_path: Path) -> None:
    late = threading.Timer(1.5, server.start)
    late.start()
    asked: list[float] = []
    server.start_agent(script(tmp_path, "cat > /dev/null"), check=lambda: asked.append(time.monotonic()))
    late.join()
    assert asked, "between the tries it is looked whether QEMU still runs"


def test_it_ends_as_soon_as_there_is_nothing_to_wait_for(server: Server, tmp_path: Path) -> None:
    def ended() -> None:
        raise NodeError("QEMU ended while the machine was booting")

    with pytest.raises(NodeError, match=r"^QEMU ended while the machine was booting$"):
        server.start_agent(script(tmp_path, "cat > /dev/null"), check=ended)


def test_where_nobody_answers_it_is_given_up_in_time_and_said(server: Server, tmp_path: Path) -> None:
    told = (
        rf"no agent could be started within 1 s as root over SSH \(127\.0\.0\.1 port {server.port}, which is the "
        r"guest's port 22\): ssh says: ssh: connect to host 127\.0\.0\.1 port \d+: Connection refused$"
    )
    with pytest.raises(NodeError, match=told):
        server.start_agent(script(tmp_path, "cat > /dev/null"), 1)


def test_a_server_that_says_nothing_is_given_up_in_time(server: Server, tmp_path: Path) -> None:
    """As a guest that is not up yet: QEMU takes the connection, and nothing comes."""
    with socket.create_server(("127.0.0.1", server.port)):
        began_s = time.monotonic()
        with pytest.raises(NodeError, match="no agent could be started within 1 s as root"):
            server.start_agent(script(tmp_path, "cat > /dev/null"), 1)
    assert time.monotonic() - began_s < SOON_S


def test_a_key_that_is_refused_is_not_tried_again(server: Server, tmp_path: Path) -> None:
    server.start()
    server.key = tmp_path / "other"
    with pytest.raises(NodeError, match=r"as root over SSH .*: ssh says: .*Permission denied \(publickey\)\.$"):
        server.start_agent(script(tmp_path, "cat > /dev/null"))


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('echo "no such module: pydantic" >&2; exit 1', r"ssh says: no such module: pydantic$"),
        ("exit 3", r"exit status 3$"),
    ],
)
def test_what_the_images_python_says_is_told(server: Server, tmp_path: Path, body: str, told: str) -> None:
    server.start()
    with pytest.raises(NodeError, match=told):
        server.start_agent(script(tmp_path, body))


def test_a_python_that_is_not_there_is_named(server: Server, tmp_path: Path) -> None:
    server.start()
    with pytest.raises(NodeError, match=r"ssh says: .*/no/such/python"):
        server.start_agent("/no/such/python")


def test_another_user_becomes_root_by_sudo() -> None:
    disk = Disk(path="/none", format="raw", key="/key", user="bench", python="/opt/a venv/bin/python")
    words = over_ssh.command(disk, 4000, Path("/scratch"))
    assert words[words.index("-l") + 1] == "bench"
    assert words[-1].startswith("sudo -n '/opt/a venv/bin/python' -W ignore -c '")
