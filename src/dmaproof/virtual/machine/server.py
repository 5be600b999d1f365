"""How processes reach a machine: one JSON object a line over ``run/machine.sock`` (dmaproof.virtual.wire)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dmaproof.virtual.machine.display import PERIOD_S
from dmaproof.virtual.machine.machine import Machine
from dmaproof.virtual.machine.nvrm import Process
from dmaproof.virtual.wire import Checkup, Dma, GpuEvent, Hello, Inquiry, Kernel, PageFault, Watch, Welcome

SOCKET = "run/machine.sock"
_FIRST_CHANNEL = 8


class Server:
    """Serves ``machine`` until ``stop``. ``show`` writes what changed, and says whether to call it again."""

    def __init__(self, machine: Machine, show: Callable[[], bool]) -> None:
        self._machine, self._show, self._unshown = machine, show, False
        self._numbers = itertools.count(_FIRST_CHANNEL)
        self._watchers: set[asyncio.StreamWriter] = set()
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        self._stopped.set()

    async def run(self, root: Path, ready: Callable[[], None]) -> None:
        folder = os.open(root / SOCKET.rpartition("/")[0], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        # A socket's address holds 107 bytes, a root may be longer: the folder's descriptor is a short name for it.
        short = f"/proc/self/fd/{folder}/{SOCKET.rpartition('/')[2]}"
        server = await asyncio.start_unix_server(self._serve, short)
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

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = next(self._numbers)
        try:
            while line := await reader.readline():
                answer = self._answer(client, line, writer)
                self._after()
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
                if "error" in answer:
                    break
        except (ConnectionError, asyncio.CancelledError, ValueError):
            pass  # a killed process, the machine's own end, a line without end: what follows is the same
        finally:
            self._watchers.discard(writer)
            if client in self._machine.clients:
                self._machine.disconnect(client)
                self._after()
            with contextlib.suppress(ConnectionError):
                writer.close()

    def _answer(self, client: int, line: bytes, writer: asyncio.StreamWriter) -> dict[str, Any]:
        """The answer to one line. One that makes no sense gets ``{"error": ..}``, and ends the connection."""
        try:
            request = json.loads(line)
            op = request["op"]
            if op == "hello":
                return self._hello(client, Hello(**request))
            if client not in self._machine.clients:
                return {"error": f"{op} before hello"}
            if op == "watch":
                return self._watch(Watch(**request), writer)
            return self._ask(client, op, request)
        except (ValueError, KeyError, TypeError) as error:
            return {"error": f"{type(error).__name__}: {error}: {line.decode(errors='backslashreplace').strip()}"}

    def _ask(self, client: int, op: str, request: dict[str, Any]) -> dict[str, Any]:
        now_s = time.monotonic()
        if op == "dma":
            return asdict(self._machine.dma(client, Dma(**request), now_s))
        if op == "fault":
            return asdict(self._machine.fault(client, PageFault(**request), now_s))
        if op == "kernel":
            self._machine.kernel(client, Kernel(**request))
            return {}
        if op == "inquiry":
            return asdict(self._machine.inquire(client, Inquiry(**request)))
        if op == "checkup":
            return asdict(self._machine.checkup(Checkup(**request).gpu))
        raise ValueError(f"unknown op {op!r}")

    def _hello(self, client: int, hello: Hello) -> dict[str, Any]:
        self._machine.connect(client, Process(hello.pid, hello.process, client))
        return asdict(Welcome(node=self._machine.effective.model_dump_json()))

    def _watch(self, _: Watch, writer: asyncio.StreamWriter) -> dict[str, Any]:
        """Begins the stream with an event of type 0 (nvmlEventTypeNone): its reader misses nothing from there on."""
        self._watchers.add(writer)
        return asdict(GpuEvent(gpu="", event_type=0, event_data=0))

    def _after(self) -> None:
        """What every change ends with: files first, so that whoever hears an answer or an event finds them changed."""
        self._unshown = self._show()
        events, self._machine.events[:] = list(self._machine.events), []
        for event in events:
            line = json.dumps(asdict(event)).encode() + b"\n"
            for writer in self._watchers:
                writer.write(line)
