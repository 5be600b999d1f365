"""A machine that writes without end, on its console or into QEMU's trace: the disk is kept from filling, and that the
console is flooded is told.

A serial console is written byte by byte, and the processor waits for each (serial8250_console_write,
drivers/tty/serial/8250/8250_port.c): a kernel that prints without end does little else.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dmaproof.guest.console import last_words
from dmaproof.guest.folder import CONSOLE, QEMU_LOG, TRACE

MOST_NBYTES, ENDS_NBYTES = 64 << 20, 8 << 20
"""How long a file gets before its middle is given back, and what stays of it at either end."""
_FLOOD_NBYTES, _FLOOD_BYTES_PER_S = 1 << 20, 4 << 10
"""A boot with all it has to say takes some 100 KiB; a line of 80 bytes fifty times a second is read by nobody. An
emulated machine with half a processor prints no more than 20 KiB/s, however much it has to say."""
_LOOKS, _LOOK_S, _THIN_EVERY_S = 4, 0.5, 1.0
"""An oops with its registers and stack is 8 KiB at once, and over by the next look: what floods does not stop."""
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
"""include/uapi/linux/falloc.h"""
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


@dataclass(frozen=True, slots=True)
class Spoken:
    """A console took ``nbytes`` in all, and ``bytes_per_s`` or more all the while it was looked at; ``last_words`` end
    a sentence."""

    nbytes: int
    bytes_per_s: float
    last_words: str

    @property
    def flood(self) -> bool:
        return self.nbytes >= _FLOOD_NBYTES or self.bytes_per_s >= _FLOOD_BYTES_PER_S


def spoken(folder: Path) -> Spoken:
    """How much the machine in ``folder`` has put on its console, and puts on it now; takes half a second where it is
    quiet, two where it floods."""
    path = folder / CONSOLE
    slowest = float("inf")
    for _ in range(_LOOKS):
        before, began_s = _nbytes(path), time.monotonic()
        time.sleep(_LOOK_S)
        slowest = min(slowest, (_nbytes(path) - before) / (time.monotonic() - began_s))
        if slowest < _FLOOD_BYTES_PER_S:
            break
    return Spoken(_nbytes(path), slowest, last_words(folder))


def _nbytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def thin(folder: Path, most_nbytes: int = MOST_NBYTES, ends_nbytes: int = ENDS_NBYTES) -> None:
    """Give back the disk under the middle of what has grown beyond ``most_nbytes`` in ``folder``. Offsets stay, for
    whoever writes; who reads there finds zeros. A file system that cannot do so keeps the whole."""
    for path in (folder / CONSOLE, folder / QEMU_LOG, folder / TRACE):
        nbytes = _nbytes(path)
        if nbytes > most_nbytes:
            with path.open("r+b") as file:
                _libc.fallocate(file.fileno(), _PUNCH_HOLE | _KEEP_SIZE, ends_nbytes, nbytes - 2 * ends_nbytes)


@contextmanager
def thinned(folder: Path) -> Iterator[None]:
    """Meanwhile, ``thin`` once a second."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(_THIN_EVERY_S):
            thin(folder)

    thread = threading.Thread(target=work, daemon=True, name="thin")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def both_ends(path: Path, most_nbytes: int = MOST_NBYTES, ends_nbytes: int = ENDS_NBYTES) -> bytes:
    """What to keep of ``path``: the whole, or both ends of a long one and a line that says what is left out."""
    with path.open("rb") as file:
        nbytes = os.fstat(file.fileno()).st_size
        if nbytes <= most_nbytes:
            return file.read(most_nbytes)
        first = file.read(ends_nbytes)
        file.seek(-ends_nbytes, os.SEEK_END)
        left_out = f"\n[dmaproof: {nbytes - 2 * ends_nbytes} bytes left out]\n"
        return first + left_out.encode() + file.read(ends_nbytes)
