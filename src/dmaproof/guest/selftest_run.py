"""One of the kernel's selftests, run where it is to be: a workload for a lab host. Standard library and VFIO only."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from dmaproof.errors import Unsupported
from dmaproof.vfio.bind import bound, changed, kept_journal

_HUGE_PAGES = Path("/proc/sys/vm/nr_hugepages")


@dataclass(frozen=True, slots=True)
class SelftestRun:
    """``output`` is standard output and error; ``status`` the exit status, negative for a signal, None when killed at
    its time limit."""

    output: str
    status: int | None
    seconds: float


def run(
    program: str, arguments: Sequence[str], functions: Sequence[str], timeout_s: float, huge_pages: int = 0
) -> SelftestRun:
    """Run ``program`` with ``arguments``, the PCI ``functions`` bound to vfio-pci meanwhile and named last, and
    ``huge_pages`` (2 MiB) set aside.

    Raises Unsupported where the file is not there, DmaproofError where a device cannot be bound.
    """
    if not os.access(program, os.X_OK):
        raise Unsupported(f"{program} is not on this node's root: build it with `dmaproof lab selftests`")
    with ExitStack() as stack:
        if huge_pages:
            changed(stack.enter_context(kept_journal()), _HUGE_PAGES, str(huge_pages))
        if functions:
            stack.enter_context(bound(list(functions)))
        return _watched([program, *arguments, *functions], timeout_s)


def _watched(command: Sequence[str], timeout_s: float) -> SelftestRun:
    """In a group of its own: these programs fork, and a crash of one leaves the others waiting."""
    with tempfile.TemporaryFile() as out:
        began_s = time.monotonic()
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status: int | None = child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            child.wait()
        out.seek(0)
        return SelftestRun(out.read().decode(errors="replace"), status, time.monotonic() - began_s)
