"""Inside a lab host or guest: ``python -m dmaproof.guest.agent``. Runs workers for the harness outside, sends the
kernel log, and a copy of the files that say what this machine is.

Everything goes over virtio-serial ports of its own (dmaproof.guest.port): one for the keeper, one for each process of a
run. Nothing here listens on a network. This process imports next to nothing, for an emulated processor takes seconds
over what a real one does in tenths: what needs more is forked off, and imports it while the rest goes on.
"""

from __future__ import annotations

import base64
import json
import os
import select
import time
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import NoReturn

from dmaproof.guest import port
from dmaproof.guest.port import Port

LOG = Path("/dev/kmsg")
_RECORD_NBYTES = 8192  # CONSOLE_EXT_LOG_MAX, kernel/printk/printk.c
_BATCH_NBYTES = 1 << 16


def main() -> None:
    ports = port.names()
    control = Port(ports.pop(port.CONTROL))
    servers = [_fork(_server(ports[name], at_once=number == 0)) for number, name in enumerate(sorted(ports))]
    archive = os.memfd_create("machine.tar.gz")
    packing = os.pidfd_open(_fork(lambda: _pack(archive)))
    _pass_on(control, packing, archive, {os.pidfd_open(pid): pid for pid in servers})


def _fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        _be(work)
    return pid


def _be(work: Callable[[], None]) -> NoReturn:
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def _server(device: Path, *, at_once: bool) -> Callable[[], None]:
    """Serves the port ``device``; what that needs is imported ``at_once``, or when the first call comes."""

    def run() -> None:
        asked = Port(device)
        frames = asked.frames()
        first = () if at_once else (next(frames),)
        from dmaproof.guest.serve import serve

        serve(chain(first, frames), asked)

    return run


def _pack(target: int) -> None:
    """Into the file ``target``, which the process that passes it on has open too."""
    import tempfile

    from dmaproof.rig import archive

    with tempfile.TemporaryDirectory() as folder, os.fdopen(target, "wb") as packed:
        path = Path(folder, "machine.tar.gz")
        archive.save(Path("/"), path, "agent", with_log=False)
        packed.write(path.read_bytes())


def _pass_on(control: Port, packing: int, archive: int, servers: Mapping[int, int]) -> None:
    """Send the archive once it is packed, and every record of the kernel log from boot on, for ever. ``servers``: the
    processes that serve, by their pidfds. Raises ChildProcessError where one ends: whoever asked it would wait."""
    log = os.open(LOG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    waiter = select.poll()
    waiter.register(log, select.POLLIN)
    for pidfd in (packing, *servers):
        waiter.register(pidfd, select.POLLIN)
    while True:
        ready = {fd for fd, _ in waiter.poll()}
        for pidfd in ready & servers.keys():
            raise ChildProcessError(f"process {servers[pidfd]}, which served a port of the agent, has ended")
        if packing in ready:
            waiter.unregister(packing)
            _send(control, "machine", archive=_text(_packed(archive)), now_s=time.monotonic())
        if log in ready:
            _send(control, "log", records=_text(_read(log)))


def _packed(archive: int) -> bytes:
    with os.fdopen(archive, "rb") as file:
        file.seek(0)
        data = file.read()
    if not data:
        raise ChildProcessError("the process that packs what this machine is has ended, and has packed nothing")
    return data


def _send(control: Port, kind: str, **words: str | float) -> None:
    """As dmaproof.guest.said has it."""
    control.write(json.dumps({"kind": kind, **words}).encode())


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _read(log: int) -> bytes:
    """The records that are there. Those that were overwritten before show by the numbers that lack."""
    batch = b""
    while len(batch) < _BATCH_NBYTES:
        try:
            batch += os.read(log, _RECORD_NBYTES)
        except BrokenPipeError:
            continue
        except BlockingIOError:
            break
    return batch


if __name__ == "__main__":
    main()
