"""The kernel log as ``/dev/kmsg`` hands it out, in a regular file (Documentation/ABI/testing/dev-kmsg)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ERR, WARNING, NOTICE, INFO = 3, 4, 5, 6
Record = tuple[str, int, str | None, tuple[str, str] | None]
"""The arguments of one KernelLog.write."""


class KernelLog:
    """Appends records ``prio,seq,usec,flags;text`` with ``SUBSYSTEM=`` and ``DEVICE=`` lines for a device's message.

    Each record is one write: a reader finds whole records. ``usec`` is CLOCK_MONOTONIC.
    """

    def __init__(self, file: Path, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._fd = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._clock_ns = clock_ns
        self._next = 0
        self._apart: list[Record] | None = None

    def write(
        self, text: str, level: int = INFO, bdf: str | None = None, device: tuple[str, str] | None = None
    ) -> None:
        """One record; ``bdf`` names the PCI device of a dev_printk message, ``device`` (subsystem, name) any other."""
        if self._apart is not None:
            self._apart.append((text, level, bdf, device))
            return
        subsystem, name = ("pci", bdf) if device is None else device
        record = f"{level},{self._next},{self._clock_ns() // 1000},-;{_escaped(text)}\n"
        if name is not None:
            record += f" SUBSYSTEM={subsystem}\n DEVICE=+{subsystem}:{name}\n"
        self._next += 1
        os.write(self._fd, record.encode("ascii"))

    @contextmanager
    def apart(self) -> Iterator[list[Record]]:
        """What is written meanwhile goes to the list that is yielded, not into the log."""
        self._apart = []
        yield self._apart
        self._apart = None

    def close(self) -> None:
        os.close(self._fd)


def _escaped(text: str) -> str:
    """msg_add_ext_text, kernel/printk/printk.c: every byte that does not print, and the backslash, in hexadecimal."""
    return "".join(chr(byte) if 0x20 <= byte < 0x7F and byte != 0x5C else f"\\x{byte:02x}" for byte in text.encode())
