"""Real machines, booted as a run boots them, and processes' connections to them."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from dmaproof.node.node import Node
from dmaproof.rig.load import load
from dmaproof.rig.model import Rig
from dmaproof.virtual.power import provision
from dmaproof.virtual.wire import ROOT_VARIABLE, Dma, Hello, Inquiry, PageFault, Watch


class Client:
    """One process that opened the GPUs: ``pid`` and ``process`` are what log lines will say."""

    def __init__(self, node: Node, pid: int = 4242, process: str = "python3") -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        self._socket.connect(node.env[ROOT_VARIABLE] + "/run/machine.sock")
        self._reader = self._socket.makefile("rb")
        self.welcome = self.ask(asdict(Hello(pid=pid, process=process)))

    def ask(self, request: Any) -> dict[str, Any]:
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        return self.next()

    def next(self) -> dict[str, Any]:
        line = self._reader.readline()
        assert line.endswith(b"\n"), "the machine closed the connection"
        return json.loads(line)

    def dma(self, source: str, target: str, *, requester: str = "", engine: str = "ce", nbytes: int = 1 << 20) -> str:
        return self.transfer(source, target, requester=requester, engine=engine, nbytes=nbytes)["effect"]

    def transfer(self, source: str, target: str, **more: Any) -> dict[str, Any]:
        requester = more.pop("requester", "") or (target if source == "host" else source)
        wish = {"engine": "ce", "nbytes": 1 << 20, "va": 0x7F0000000000, **more}
        return self.ask(asdict(Dma(requester=requester, source=source, target=target, **wish)))

    def fault(self, gpu: str, **more: Any) -> dict[str, Any]:
        wish = {"va": 0x7F2B_5000_0000, "nbytes": 4096, "access": "write", "space": "system", "toward": gpu, **more}
        return self.ask(asdict(PageFault(gpu=gpu, **wish)))

    def state(self, gpu: str) -> str:
        return self.ask(asdict(Inquiry(gpu=gpu)))["state"]

    def watch(self) -> None:
        assert self.ask(asdict(Watch()))["event_type"] == 0

    def close(self) -> None:
        self._reader.close()
        self._socket.close()


Boot = Callable[..., Node]
Dial = Callable[..., Client]


@pytest.fixture
def boot(tmp_path: Path) -> Iterator[Boot]:
    """``boot(rig, *plants)``: the first node of a rig, switched on until the test ends."""
    with ExitStack() as stack:

        def start(rig: str | Rig, *plants: str, workdir: Path = tmp_path / "nodes") -> Node:
            found = load(rig) if isinstance(rig, str) else rig
            return next(iter(stack.enter_context(provision(found, workdir, plants)).values()))

        yield start


@pytest.fixture
def dial() -> Iterator[Dial]:
    """``dial(node)``: a process's connection, closed when the test ends."""
    with ExitStack() as stack:

        def connect(node: Node, **who: Any) -> Client:
            client = Client(node, **who)
            stack.callback(client.close)
            return client

        yield connect


@pytest.fixture
def log() -> Callable[[Node], list[str]]:
    """``log(node)``: the texts of the kernel log, continuation lines left out."""

    def read(node: Node) -> list[str]:
        lines = (node.root / "dev/kmsg").read_text().splitlines()
        return [line.partition(";")[2] for line in lines if not line.startswith(" ")]

    return read


@pytest.fixture
def machine_pids() -> Callable[[Path], list[int]]:
    """``machine_pids(root)``: processes that run the machine of ``root``, zombies left out."""

    def find(root: Path) -> list[int]:
        return [int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit() and _runs(int(one.name), root)]

    return find


def _runs(pid: int, root: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"dmaproof.virtual.machine" in words and os.fsencode(root) in words
