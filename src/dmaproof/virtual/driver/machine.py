"""The driver's line to the machine it runs on (dmaproof.virtual.wire)."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any, Literal

from dmaproof.rig.model import Node
from dmaproof.virtual.driver.errors import CuResult, DriverError
from dmaproof.virtual.wire import (
    ROOT_VARIABLE,
    Dma,
    DmaOutcome,
    FaultOutcome,
    Hello,
    Inquiry,
    Kernel,
    PageFault,
    Presence,
    written,
)

_CONNECT_TIMEOUT_S = 10.0


class MachineLink:
    """One connection, one request at a time. The machine takes its end as this process's death, so it stays open."""

    def __init__(self, root: Path) -> None:
        self._lock = threading.Lock()
        # A bare descriptor: the connection is to live until the process ends, not until the interpreter does.
        self._fd = _connect(root / "run" / "machine.sock").detach()
        self._lines = os.fdopen(self._fd, "rb", closefd=False)
        welcome = self._ask(Hello(pid=os.getpid(), process=_process_name()))
        self.node = Node.model_validate_json(str(welcome["node"]))

    def dma(self, request: Dma) -> DmaOutcome:
        return DmaOutcome(**self._ask(request))

    def fault(self, request: PageFault) -> FaultOutcome:
        return FaultOutcome(**self._ask(request))

    def kernel(self, gpu: str, event: Literal["begins", "ends", "traps"]) -> None:
        self._ask(Kernel(gpu=gpu, event=event))

    def inquire(self, gpu: str, *, context: bool = False) -> Presence:
        return Presence(**self._ask(Inquiry(gpu=gpu, context=context)))

    def _ask(self, request: Hello | Dma | PageFault | Kernel | Inquiry) -> dict[str, Any]:
        with self._lock:
            try:
                _write(self._fd, written(request))
                line = self._lines.readline()
            except OSError as error:
                raise _gone(str(error)) from error
        if not line:
            raise _gone("it closed the connection")
        answer: dict[str, Any] = json.loads(line.decode())
        if "error" in answer:
            raise DriverError(CuResult.UNKNOWN, f"the virtual machine refused {request}: {answer['error']}")
        return answer


def open_machine() -> MachineLink:
    """The machine that the environment names. DriverError NO_DEVICE where there is none."""
    root = os.environ.get(ROOT_VARIABLE)
    if not root:
        raise DriverError(CuResult.NO_DEVICE, f"{ROOT_VARIABLE} is not set: no virtual machine to run on")
    return MachineLink(Path(root))


def _connect(path: Path) -> socket.socket:
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.settimeout(_CONNECT_TIMEOUT_S)
    try:
        link.connect(str(path))
    except OSError as error:
        link.close()
        raise DriverError(CuResult.NO_DEVICE, f"no virtual machine answers at {path}: {error.strerror}") from error
    link.settimeout(None)
    return link


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _gone(why: str) -> DriverError:
    return DriverError(CuResult.DEINITIALIZED, f"the virtual machine is gone: {why}")


def _process_name() -> str:
    """As the kernel log names a process: the executable's file name, at most 15 characters (TASK_COMM_LEN)."""
    try:
        return Path("/proc/self/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return Path(sys.executable).name[:15]
