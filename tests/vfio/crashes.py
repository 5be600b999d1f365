"""A program for a machine of one's own: ``python -m tests.vfio.crashes BDF..``, as root.

A process takes functions for VFIO and gives them back, and is killed by SIGKILL at its first step, at its second, and
so on, until one lives to its end. A step is before, in the midst of, or after a write into the journal or sysfs. After
each, what a new start makes of it is compared with what was there before. So is what a process left that was killed
while it put back what another had left. Prints JSON: for each of the two, ``steps``; ``dirty``: after how many of them
something was not as before; ``left``: what was not as before after the new start.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dmaproof.endpoint.assigned.rebind import Owner, owner
from dmaproof.errors import DmaproofError
from dmaproof.vfio import restore
from dmaproof.vfio.bind import bound
from dmaproof.vfio.journal import FOLDER

_CHILD_S, _POLL_S = 60.0, 0.002


class Killer:
    """Counts this process's steps from 1, and kills it at number ``last`` (0: never)."""

    def __init__(self, last: int) -> None:
        self._last, self._steps = last, itertools.count(1)

    def step(self, kill: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGKILL)) -> None:
        if next(self._steps) == self._last:
            kill()

    def step_beside(self) -> None:
        """The kill comes while this thread goes on."""
        self.step(threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGKILL)).start)

    def around(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*args: Any, **kwargs: Any) -> Any:
            self.step()
            self.step_beside()
            done = act(*args, **kwargs)
            self.step()
            return done

        return stepping


def die_at(last: int) -> None:
    """Whatever changes a file from now on is a step."""
    killer = Killer(last)
    setattr(os, "write", killer.around(os.write))  # noqa: B010 - of this process, which is ours
    setattr(Path, "write_text", killer.around(Path.write_text))  # noqa: B010
    setattr(Path, "unlink", killer.around(Path.unlink))  # noqa: B010


def take_and_give_back(bdfs: list[str]) -> None:
    with bound(bdfs):
        pass


def take_and_die(bdfs: list[str]) -> None:
    with bound(bdfs):
        os.kill(os.getpid(), signal.SIGKILL)


def in_child(work: Callable[[], object]) -> int:
    """Its exit status, negative for a signal; it is killed where it takes too long."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - nobody else is left to write it down
            traceback.print_exc()
            os._exit(1)
    until = time.monotonic() + _CHILD_S
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            os.kill(pid, signal.SIGKILL)
            raise TimeoutError(f"a process that takes {_CHILD_S:g} s: it hangs")
        time.sleep(_POLL_S)


def state(bdfs: list[str]) -> dict[str, Owner]:
    return {bdf: owner(bdf) for bdf in bdfs}


def journals() -> list[str]:
    return sorted(str(one) for one in FOLDER.glob("*.jsonl"))


def starts(bdfs: list[str]) -> Iterator[Callable[[], object]]:
    """What a new start may be, in turn."""
    return itertools.cycle((restore.replay, lambda: take_and_give_back(bdfs)))


def tried(bdfs: list[str], prepare: Callable[[], object], work: Callable[[], object]) -> dict[str, object]:
    before, left, dirty = state(bdfs), list[str](), 0
    for last, start in zip(itertools.count(1), starts(bdfs), strict=False):
        prepare()
        status = in_child(lambda last=last: (die_at(last), work()))  # type: ignore[misc]
        dirty += state(bdfs) != before
        try:
            start()
        except DmaproofError as error:
            left.append(f"step {last}: {error}")
        if state(bdfs) != before or journals():
            left.append(f"step {last}: {state(bdfs)}, journals {journals()}")
        if status != -signal.SIGKILL:
            left += [f"the work failed with status {status}"] if status else []
            return {"steps": last - 1, "dirty": dirty, "left": left}
    raise AssertionError


def main(bdfs: list[str]) -> None:
    began_s = time.monotonic()
    binding = tried(bdfs, lambda: None, lambda: take_and_give_back(bdfs))
    between_s = time.monotonic()
    replaying = tried(bdfs, lambda: in_child(lambda: take_and_die(bdfs)), restore.replay)
    took = {"binding": round(between_s - began_s, 1), "replaying": round(time.monotonic() - between_s, 1)}
    before = {bdf: [one.driver, one.override] for bdf, one in state(bdfs).items()}
    json.dump({"owners": before, "took_s": took, "binding": binding, "replaying": replaying}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
