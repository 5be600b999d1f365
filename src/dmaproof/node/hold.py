"""A run's claim on its devices for its whole length, so that a second run is refused before its first test."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from dmaproof.errors import DeviceBusy
from dmaproof.node import lockfile, marker
from dmaproof.node.deadline import Deadline
from dmaproof.node.lockfile import Holder
from dmaproof.node.node import Node, lock_dir

_SETTLE_S = 2.0
"""Claims are exclusive only for the moments it takes to write a name: longer, and something is wrong."""


@contextlib.contextmanager
def hold_for_run(node: Node, devices: Iterable[str], run_id: str) -> Iterator[None]:
    """Hold ``devices`` (BDFs) for ``run_id``; all processes of one run may. Raises DeviceBusy naming the other run.

    Each device has a claim file, locked shared by every process of the run and naming it. SIGKILL drops the lock, and
    the name in a file that nobody has locked means nothing. What the claim does not say is that a device works: a
    process that could not be killed shows when a worker asks for the device (dmaproof.node.locks).
    """
    folder = lock_dir(node)
    holder = lockfile.this_process(run_id)
    with contextlib.ExitStack() as opened:
        for device in lockfile.canonical(devices):
            fd = lockfile.open_shared(folder / f"{lockfile.stem(device)}.run")
            opened.callback(os.close, fd)
            _claim(fd, device, holder, folder)
        yield


def _claim(fd: int, device: str, ours: Holder, folder: Path) -> None:
    deadline = Deadline.after(_SETTLE_S)
    while True:
        if lockfile.try_exclusive(fd):  # nobody has it: the run begins here
            lockfile.write(fd, ours)
            marker.forget_other_runs(folder, device, ours.run)
        if lockfile.try_shared(fd):
            found = lockfile.read(fd)  # read under the lock, for another run may have come in between
            if found is not None and found.run == ours.run:
                return
            raise DeviceBusy(f"{device} belongs to {found}: wait for that run to end, or stop it")
        if deadline.passed:
            raise DeviceBusy(f"{device} is being claimed by another run, {lockfile.read(fd)}")
        time.sleep(0.002)
