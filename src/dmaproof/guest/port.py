"""The guest's end of a virtio-serial port (drivers/char/virtio_console.c), found by its name; frames go over it.

A port has no connection of its own: while nobody has it open on the host's side, reading gives the end of file at once,
and what is written is lost. So reading waits until the host is there, and a frame is whole or not at all.
"""

from __future__ import annotations

import os
import select
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from dmaproof.errors import NodeError

PREFIX = "dmaproof."
"""Of the names of our ports."""
CONTROL = f"{PREFIX}control"
BRIDGED = "dmaproof-guest."
"""Of the names of ports that a guest's own, called ``PREFIX`` instead, are joined to."""
_PORTS = Path("sys/class/virtio-ports")
_LENGTH = struct.Struct("!I")
_CHUNK_NBYTES = 1 << 16
_AWAY_S = 0.02
_UP_S, _STEP_S = 20.0, 0.01


def names(root: Path = Path("/"), patience_s: float = _UP_S) -> dict[str, Path]:
    """The device of every port of ours, by the port's name.

    The kernel names them one after the other while others have started already; the last is ``CONTROL``. Raises
    NodeError where it does not come within ``patience_s``.
    """
    until = time.monotonic() + patience_s
    while CONTROL not in (found := named(PREFIX, root)):
        if time.monotonic() > until:
            raise NodeError(f"no port {CONTROL} in {root / _PORTS} after {patience_s:g} s")
        time.sleep(_STEP_S)
    return found


def named(prefix: str, root: Path = Path("/")) -> dict[str, Path]:
    """The devices of the ports whose names begin with ``prefix``, by name; those that are there now."""
    return dict(_named(prefix, root))


def _named(prefix: str, root: Path) -> Iterator[tuple[str, Path]]:
    for folder in sorted((root / _PORTS).glob("*")):
        try:
            name = (folder / "name").read_text().strip()
        except FileNotFoundError:  # it has no name yet
            continue
        if name.startswith(prefix):
            yield name, root / "dev" / folder.name


class Port:
    """One port. Any thread may write; one reads."""

    def __init__(self, device: Path) -> None:
        try:
            self._fd = os.open(device, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise NodeError(f"{device} cannot be opened: {error.strerror}") from None
        self._writing = threading.Lock()

    def frames(self) -> Iterator[bytes]:
        """Every frame that comes, without end. Half a frame of a host that went away is thrown away."""
        pending = bytearray()
        while True:
            chunk = self._read()
            if not chunk:
                pending.clear()
                time.sleep(_AWAY_S)
                continue
            pending += chunk
            while len(pending) >= _LENGTH.size:
                end = _LENGTH.size + _LENGTH.unpack_from(pending)[0]
                if len(pending) < end:
                    break
                yield bytes(pending[_LENGTH.size : end])
                del pending[:end]

    def _read(self) -> bytes:
        while True:
            try:
                return os.read(self._fd, _CHUNK_NBYTES)
            except BlockingIOError:
                self._poll(select.POLLIN)

    def write(self, payload: bytes) -> None:
        """Send one frame; dropped where nobody is there to take it."""
        left = memoryview(_LENGTH.pack(len(payload)) + payload)
        with self._writing:
            while left:
                try:
                    left = left[os.write(self._fd, left[:_CHUNK_NBYTES]) :]
                except BlockingIOError:
                    if not self._poll(select.POLLOUT):
                        return
                except BrokenPipeError:
                    return

    def _poll(self, event: int) -> bool:
        """Wait for ``event``; False where the host has gone."""
        waiter = select.poll()
        waiter.register(self._fd, event)
        ready = waiter.poll()
        return not ready[0][1] & select.POLLHUP
