"""How processes reach a machine: one JSON object a line over ``run/machine.sock`` (dmaproof.virtual.wire)."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dmaproof.virtual.machine.display import PERIOD_S
from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.machine.nvrm import Process
from dmaproof.virtual.wire import Checkup, Dma, GpuEvent, Hello, Inquiry, Kernel, PageFault, Watch, Welcome, written

SOCKET = "run/machine.sock"
_FIRST_CHANNEL = 8
_MOST_NBYTES = 1 << 16
_NOTHING = b"{}\n"


class Server:
    """Serves ``machine`` until ``stop``. ``show`` writes what changed, and says whether to call it again."""

    def __init__(self, machine: Machine, show: Callable[[], bool]) -> None:
        self._machine, self._show, self._unshown = machine, show, False
        self._numbers = itertools.count(_FIRST_CHANNEL)
        self._watchers: set[asyncio.Transport] = set()
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        self._stopped.set()

    async def run(self, root: Path, ready: Callable[[], None]) -> None:
        folder = os.open(root / SOCKET.rpartition("/")[0], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        # A socket's address holds 107 bytes, a root may be longer: the folder's descriptor is a short name for it.
        short = f"/proc/self/fd/{folder}/{SOCKET.rpartition('/')[2]}"
        server = await asyncio.get_running_loop().create_unix_server(lambda: _Client(self, next(self._numbers)), short)
        os.close(folder)
        ready()
        ticking = asyncio.create_task(self._tick())
        await self._stopped.wait()
        ticking.cancel()
        server.close()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(PERIOD_S)
            if self._machine.busy or self._unshown:
                self._machine.tick(time.monotonic())
                self._after()

    def answer(self, client: int, line: bytes, transport: asyncio.Transport) -> bytes:
        """The answer to one line, once what it changed is shown. Raises ValueError for one that makes no sense."""
        try:
            answer = self._answer(client, json.loads(line.decode()), transport)
        except (ValueError, KeyError, TypeError) as error:
            told = line.decode(errors="backslashreplace").strip()
            raise ValueError(f"{type(error).__name__}: {error}: {told}") from error
        finally:
            self._after()
        return answer

    def gone(self, client: int, transport: asyncio.Transport) -> None:
        """The process has ended, or its connection."""
        self._watchers.discard(transport)
        if client in self._machine.clients:
            self._machine.disconnect(client)
            self._after()

    def _answer(self, client: int, request: dict[str, Any], transport: asyncio.Transport) -> bytes:
        op, now_s, machine = request["op"], time.monotonic(), self._machine
        if op == "hello":
            return written(self._hello(client, Hello(**request)))
        if client not in machine.clients:
            raise ValueError(f"{op} before hello")
        if op == "dma":
            return written(machine.dma(client, Dma(**request), now_s))
        if op == "fault":
            return written(machine.fault(client, PageFault(**request), now_s))
        if op == "kernel":
            machine.kernel(client, Kernel(**request))
            return _NOTHING
        if op == "inquiry":
            return written(machine.inquire(client, Inquiry(**request)))
        if op == "checkup":
            return written(machine.checkup(Checkup(**request).gpu))
        if op == "watch":
            return written(self._watch(Watch(**request), transport))
        raise ValueError(f"unknown op {op!r}")

    def _hello(self, client: int, hello: Hello) -> Welcome:
        self._machine.connect(client, Process(hello.pid, hello.process, client))
        return Welcome(node=self._machine.effective.model_dump_json())

    def _watch(self, _: Watch, transport: asyncio.Transport) -> GpuEvent:
        """Begins the stream with an event of type 0 (nvmlEventTypeNone): its reader misses nothing from there on."""
        self._watchers.add(transport)
        return GpuEvent(gpu="", event_type=0, event_data=0)

    def _after(self) -> None:
        """What every change ends with: files first, so that whoever hears an answer or an event finds them changed."""
        self._unshown = self._show()
        events, self._machine.events[:] = list(self._machine.events), []
        for event in events:
            for watcher in self._watchers:
                watcher.write(written(event))


class _Client(asyncio.Protocol):
    """One connection. What is no answer, ``{"error": ..}``, ends it; so does a line without end."""

    def __init__(self, server: Server, number: int) -> None:
        self._server, self._number = server, number
        self._lines = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of a stream socket
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *whole, self._lines = (self._lines + data).split(b"\n")
        try:
            for line in whole:
                self._transport.write(self._server.answer(self._number, line, self._transport))
        except ValueError as error:
            self._transport.write(json.dumps({"error": str(error)}).encode() + b"\n")
            self._transport.close()
        if len(self._lines) > _MOST_NBYTES:
            self._transport.abort()

    def connection_lost(self, _: Exception | None) -> None:
        self._server.gone(self._number, self._transport)
