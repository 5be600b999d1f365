"""Which process may use a device: one flock file a device, keyed by its BDF, in the node's lock folder.

The kernel drops a flock with the last descriptor of its open file. A worker is given the descriptors for the time of a
call, so a worker that cannot be killed keeps its devices locked for exactly as long as it is stuck: the lock itself is
the poison flag, and SIGKILL of everything else leaves nothing behind. For the same reason a lock is only ever closed,
never unlocked: LOCK_UN would free it for every holder of the open file (flock(2)).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from dmaproof.errors import DeviceBusy, DevicePoisoned, NodeError
from dmaproof.node import lockfile, marker
from dmaproof.node.deadline import Deadline
from dmaproof.node.hold import hold_for_run
from dmaproof.node.lockfile import Holder
from dmaproof.node.marker import poison, poisoned
from dmaproof.node.node import Node, lock_dir

__all__ = ["Held", "acquire", "hold_for_run", "poison", "poisoned"]

_DYING_S = 1.0
"""How long a worker may take to end after its harness was killed before it is called unkillable."""
_POLL_S = 0.002


@dataclass(slots=True)
class Held:
    """Locks that this process holds. ``fds`` are what a worker is given."""

    fds: list[int]
    holder: Holder

    def mark_unkillable(self) -> None:
        """Write into the lock files that the worker cannot be killed, for whoever finds them held."""
        self.holder = replace(self.holder, unkillable=True)
        for fd in self.fds:
            lockfile.write(fd, self.holder)

    def sign(self, fd: int) -> None:
        lockfile.write(fd, self.holder)
        self.fds.append(fd)

    def unsign(self, fd: int) -> None:
        """Leave no name in a file that is about to be free: the next holder would be taken for the last one."""
        if not self.holder.unkillable:
            os.ftruncate(fd, 0)


@contextlib.contextmanager
def acquire(node: Node, devices: Iterable[str], run_id: str, deadline: Deadline, worker: int) -> Iterator[Held]:
    """Hold ``devices`` (BDFs) for ``run_id``; ``worker`` is the pid that will use them.

    Waits until ``deadline`` for processes of the same run. Raises DeviceBusy naming a holder of another run at once,
    DevicePoisoned where a process that cannot be killed holds a device, or where the run has poisoned it.
    """
    held = Held([], lockfile.this_process(run_id, worker))
    with contextlib.ExitStack() as opened:
        names = lockfile.canonical(devices)
        folder = lock_dir(node) if names else Path()
        for device in names:  # sorted: two siblings that want the same pair cannot wait for each other
            fd = lockfile.open_shared(folder / f"{lockfile.stem(device)}.lock")
            opened.callback(os.close, fd)
            _lock(fd, device, run_id, deadline)
            _refuse_poisoned(folder, device, run_id)
            held.sign(fd)
            opened.callback(held.unsign, fd)
        yield held


def _lock(fd: int, device: str, run_id: str, deadline: Deadline) -> None:
    """Wait in turn: without one, a sibling that makes call after call would never let another in."""
    orphaned_s: float | None = None
    has_turn = False
    while True:
        has_turn = has_turn or lockfile.try_turn(fd)
        if has_turn and lockfile.try_exclusive(fd):
            lockfile.end_turn(fd)
            return
        holder = lockfile.read(fd)
        if holder is not None and not holder.harness_lives:
            orphaned_s = orphaned_s or time.monotonic()
        error = refusal(device, holder, run_id, 0.0 if orphaned_s is None else time.monotonic() - orphaned_s)
        if error is None and deadline.passed:
            error = DeviceBusy(f"{device} is still held by {holder} after {deadline.seconds:g} s")
        if error is not None:
            raise error
        time.sleep(min(_POLL_S, deadline.remaining_s))


def refusal(device: str, holder: Holder | None, run_id: str, orphaned_s: float) -> NodeError | None:
    """Why waiting for ``device`` is no use, or None. ``orphaned_s``: how long its holder has been without a harness."""
    if holder is None:  # its new holder is about to write who it is
        return None
    stuck = holder.worker_state
    if stuck and (holder.unkillable or orphaned_s > _DYING_S):
        return DevicePoisoned(
            f"{device} is held by unkillable process {holder.worker} (state {stuck}) of run {holder.run}, since "
            f"{holder.since}; it is free again when that process ends, at the latest after a reboot"
        )
    if holder.harness_lives and holder.run != run_id:
        return DeviceBusy(f"{device} is in use by {holder}; wait for that run to end, or stop it")
    if orphaned_s > _DYING_S:
        return DeviceBusy(f"{device} is held by {holder}, which is not visible from here (another container?)")
    return None


def _refuse_poisoned(folder: Path, device: str, run_id: str) -> None:
    reason = marker.reason(folder, device, run_id)
    if reason is not None:
        raise DevicePoisoned(f"{device} is not fit for use in this run: {reason}")
