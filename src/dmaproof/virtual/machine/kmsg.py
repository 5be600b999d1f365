"""The kernel log as ``/dev/kmsg`` hands it out, in a regular file (Documentation/ABI/testing/dev-kmsg)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

ERR, WARNING, NOTICE, INFO = 3, 4, 5, 6


class KernelLog:
    """Appends records ``prio,seq,usec,flags;text`` with ``SUBSYSTEM=`` and ``DEVICE=`` lines for a device's message.

    Each record is one write: a reader finds whole records. ``usec`` is CLOCK_MONOTONIC.
    """

    def __init__(self, file: Path, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._fd = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._clock_ns = clock_ns
        self._next = 0

    def write(self, text: str, level: int = INFO, bdf: str | None = None) -> None:
        """One record; ``bdf`` names the PCI device of a dev_printk message."""
        record = f"{level},{self._next},{self._clock_ns() // 1000},-;{text}\n"
        if bdf is not None:
            record += f" SUBSYSTEM=pci\n DEVICE=+pci:{bdf}\n"
        self._next += 1
        os.write(self._fd, record.encode("ascii", "backslashreplace"))

    def close(self) -> None:
        os.close(self._fd)
