"""NVML's lines to the machine: one for questions, one an event set for its events."""

from __future__ import annotations

import atexit
import json
import os
import select
import socket
import threading
import time
from pathlib import Path
from typing import Any

from dmaproof.rig.model import Node
from dmaproof.virtual.nvml.codes import Code, NvmlError
from dmaproof.virtual.wire import ROOT_VARIABLE, Checkup, GpuEvent, Hello, Inquiry, Presence, Watch, written

_ANSWER_TIMEOUT_S = 10.0
_CHUNK_NBYTES = 65536


class Link:
    """One connection. Raises NvmlError(DRIVER_NOT_LOADED) where no machine answers, UNKNOWN where it went away."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._buffer = b""
        self._socket = _connect()
        self._readable = select.poll()  # select() fails in a process of more than 1024 descriptors
        self._readable.register(self._socket, select.POLLIN)
        atexit.register(self.close)  # a C library's descriptors end with the process, without a word
        hello = Hello(pid=os.getpid(), process=Path("/proc/self/comm").read_text(encoding="utf-8").strip())
        self.node = Node.model_validate_json(str(self.ask(hello)["node"]))

    def ask(self, request: Hello | Inquiry | Checkup | Watch) -> dict[str, Any]:
        with self._lock:
            try:
                self._socket.sendall(written(request))
            except OSError as error:
                raise NvmlError(Code.UNKNOWN) from error
            answer = self.line(time.monotonic() + _ANSWER_TIMEOUT_S)
        if answer is None or "error" in answer:
            raise NvmlError(Code.UNKNOWN)
        return answer

    def line(self, deadline_s: float) -> dict[str, Any] | None:
        """The next line, or None where none came by ``deadline_s`` (CLOCK_MONOTONIC)."""
        while b"\n" not in self._buffer:
            if not self._readable.poll(max(0.0, deadline_s - time.monotonic()) * 1000):
                return None
            self._buffer += self._receive()
        first, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(first)
        return answer

    def _receive(self) -> bytes:
        try:
            chunk = self._socket.recv(_CHUNK_NBYTES)
        except OSError as error:
            raise NvmlError(Code.UNKNOWN) from error
        if not chunk:
            raise NvmlError(Code.UNKNOWN)
        return chunk

    def is_lost(self, gpu: str) -> bool:
        return Presence(**self.ask(Inquiry(gpu=gpu))).state == "lost"

    def watch(self) -> None:
        """From here on ``next_event`` gives events. The machine has begun to send them when this returns."""
        self.ask(Watch())

    def next_event(self, deadline_s: float) -> GpuEvent | None:
        found = self.line(deadline_s)
        return None if found is None else GpuEvent(**found)

    def close(self) -> None:
        atexit.unregister(self.close)
        self._socket.close()


def _connect() -> socket.socket:
    root = os.environ.get(ROOT_VARIABLE)
    if not root:
        raise NvmlError(Code.DRIVER_NOT_LOADED)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_ANSWER_TIMEOUT_S)
    try:
        connection.connect(str(Path(root) / "run/machine.sock"))
    except OSError as error:
        connection.close()
        raise NvmlError(Code.DRIVER_NOT_LOADED) from error
    return connection
