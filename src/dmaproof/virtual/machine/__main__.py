"""``python -m dmaproof.virtual.machine ROOT --node NAME [--plant ID ..]``: runs until its standard input ends.

The parent holds the other end of standard input: however the parent ends, the machine ends too, and takes ROOT with it.
Says ``ready`` on standard output once processes can connect.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

from dmaproof.rig.load import parse
from dmaproof.virtual import plants
from dmaproof.virtual.machine.boot import boot_lines
from dmaproof.virtual.machine.display import Display
from dmaproof.virtual.machine.kmsg import KernelLog
from dmaproof.virtual.machine.machine import build
from dmaproof.virtual.machine.server import Server

_REMOVALS, _REMOVAL_PAUSE_S = 100, 0.1


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("--node", required=True)
    parser.add_argument("--plant", action="append", default=[])
    parser.add_argument("--with-parent", action="store_true", help="the folder of ROOT goes too, once it is empty")
    chosen = parser.parse_args()
    root = chosen.root.absolute()
    try:
        asyncio.run(_live(root, chosen.node, chosen.plant))
    finally:
        _remove(root, chosen.with_parent)


def _remove(root: Path, with_parent: bool) -> None:
    """Nobody else may be left to do it. Processes that used the machine may outlive it by a moment, and still write."""
    for _ in range(_REMOVALS):
        shutil.rmtree(root, ignore_errors=True)
        if not root.exists():
            break
        time.sleep(_REMOVAL_PAUSE_S)
    if with_parent:
        with contextlib.suppress(OSError):  # another machine still lives in it, or it is gone already
            root.parent.rmdir()


async def _live(root: Path, name: str, planted: list[str]) -> None:
    rig = parse((root / "run/rig.toml").read_text(encoding="utf-8"), "run/rig.toml")
    (root / "dev").mkdir(exist_ok=True)
    log = KernelLog(root / "dev/kmsg")
    machine = build(rig.node[name], log)
    with log.apart() as said:  # causes shape what the kernel finds; what they make it say comes when it has booted
        for one in planted:
            plants.plant(one, machine)
    for record in (*boot_lines(machine), *said):
        log.write(*record)
    display = Display(root, machine)
    display.boot()
    server = Server(machine, display)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, server.stop)
    threading.Thread(target=_watch_lifeline, args=(loop, server), daemon=True).start()
    await server.run(root, _ready)


def _ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


def _watch_lifeline(loop: asyncio.AbstractEventLoop, server: Server) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    try:
        loop.call_soon_threadsafe(server.stop)
    except RuntimeError:  # the loop has ended by itself
        return


if __name__ == "__main__":
    main()
